// Persistent contrastive divergence, one step, as scikit-learn does it: in the precision of the parameters, float or
// double, on uniform numbers that somebody else drew, one after the other. Nothing is rounded but as that precision
// does, since a single draw decided otherwise would set two runs apart for good.
#pragma once

#include <vector>

#include "model/memory.hpp"
#include "model/rows.hpp"
#include "model/shares.hpp"

namespace harmonium {

template <class T>
class SequentialTrainer {
  public:
    // All of it the caller's; updates change it in place. Chains are the bits of their hidden states.
    SequentialTrainer(View<T> w, T* b, T* c, View<std::uint64_t> chains, int n_threads);

    // One update per minibatch of `batch_size` rows (the last may be shorter). Each uses up numbers_per_update()
    // numbers: for the visible states, chain by chain, then for the hidden ones. Throws Diverged at the end.
    void run(const Batch& data, Index batch_size, double learning_rate, const double* uniform);

    Index numbers_per_update() const { return chains_.rows * (w_.rows + w_.cols); }
    Index n_visible() const { return w_.rows; }
    // How many rows all updates so far have seen.
    Index rows_done() const { return rows_done_; }

  private:
    // What a share's thread works with.
    struct Scratch {
        Buffer<T> sums;  // of hidden units, this share's part: the rows of data, then the chains
        Buffer<T> x;
        Buffer<std::int32_t> index;
        Buffer<T> values, weights;
        bool finite = true;
    };
    // The update that W has not taken yet.
    struct Step {
        Index rows = 0;  // 0: there is none
        T rate = 0;
        T chain_weight = 0;  // of a chain beside a row of data: 1 where there are as many
    };

    void reserve(Index rows);
    void transpose(const Batch& minibatch, int share);
    // One pass over a share of W: takes the last step, and does all that the next one needs of these weights.
    void pass(int share, const Batch& minibatch, const double* uniform);
    // The last step alone, with a look at whether all is finite.
    void take_step(int share);
    void step_unit(Index i, Scratch& scratch);
    // The hidden units' part of a step, from the sums of all shares, and the chains' next states.
    void finish_hidden(const double* uniform);

    View<T> w_;
    T *b_, *c_;
    View<std::uint64_t> chains_;
    Shares shares_;
    int n_threads_;
    Index rows_done_ = 0;
    Index hidden_stride_;
    Step step_;
    // By visible unit, so that a unit's values lie together: those of data (of the step, and of the next), of chains.
    Buffer<T> data_, next_data_, model_;
    // By row: probabilities given data and given the chains' visible states, and the chains' hidden states.
    Buffer<T> data_hidden_, model_hidden_, states_;
    std::vector<Scratch> scratch_;
};

extern template class SequentialTrainer<float>;
extern template class SequentialTrainer<double>;

}  // namespace harmonium
