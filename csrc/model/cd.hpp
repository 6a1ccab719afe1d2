// Contrastive divergence: the statistics of one minibatch and its chains, and the step they ask for
// (docs/numerics.md, section 6).
#pragma once

#include <vector>

#include "model/pending.hpp"
#include "model/phase.hpp"
#include "model/shares.hpp"

namespace harmonium {

struct CdOptions {
    Index n_gibbs_steps = 1;
    bool persistent = true;  // chains start from the hidden states given; else from the data
    std::uint64_t seed = 0;
    std::uint64_t step = 0;  // number of the first Gibbs step
    // How many updates W takes in one pass, this one among them: with more than one they pend until then, made at this
    // learning rate.
    Index updates_a_pass = 1;
    double learning_rate = 0;
    const double* weights = nullptr;  // of each row of the data, their mean 1; null where all weigh the same
};

constexpr Index tile_units = 8;  // visible units whose weights are updated together: one 8 × 8 transpose high
constexpr Index step_blocks = 4;  // blocks of hidden units whose step is computed at once, at most: 8 KB

class ContrastiveDivergence {
  public:
    // Infinite biases have no gradient, and NaN none that would show: throws NonFiniteParameters.
    static void require_finite_biases(const Rbm& rbm);
    // Runs both phases. `chains` holds the hidden states, one row a chain; with CD it is only written. The chains are
    // those of `sampler`, a machine of the same sizes, if it is not the same.
    void run(Rbm& rbm, Rbm& sampler, const Batch& data, View<std::uint64_t> chains, const CdOptions& options);

    // How many updates with such minibatches, one chain a row, can share a pass: one, unless they are CD-1 of bits.
    static Index updates_a_pass(const Rbm& rbm, const Rows& data, Index rows, Index n_gibbs_steps);
    Index pending() const { return pending_.count(); }

    // The visible states of the chains then, as bits.
    View<const std::uint64_t> visible_states() const { return states_; }

    // Then, the whole gradient:
    void gradient(View<float> w, float* b, float* c, int n_threads);
    // or the step at learning rate `rate`, piece by piece. For the biases of a share's units and of a block:
    void visible_bias_step(double rate, int share, float* step) const;
    void hidden_bias_step(double rate, Index block, float* step) const;
    // The means over the data of p(h|v), of a block's units.
    void hidden_means(Index block, double* means) const;
    // For W, of all updates pending, if there are some: after begin_weight_steps, and list_pending of the share,
    // step[block][8][64] of a share's units first … last − 1 (at most tile_units) and
    // some blocks of hidden units (at most step_blocks). For the units in `wanted`, a bit each; it is zero for those
    // not in moving().
    void begin_weight_steps(double rate, int n_threads);
    void list_pending(int share);
    void weight_step(int share, Index first, Index last, std::uint32_t wanted, Range blocks, float* step) const;
    std::uint32_t moving(int share, Index first, Index last) const;
    // W has taken them.
    void clear_pending() { pending_.clear(); }
    const Shares& shares() const { return shares_; }
    const Phase& positive() const { return positive_; }
    const Phase& negative() const { return negative_; }
    Index hidden_blocks() const { return ceil_div(n_hidden_, block_width); }
    Range hidden_units(Index block) const {
        return {block * block_width, std::min((block + 1) * block_width, n_hidden_)};
    }

  private:
    void run_by_shares(Rbm& rbm, Rbm& sampler, const Batch& data, View<std::uint64_t> chains, const CdOptions& options);
    void run_by_rows(Rbm& rbm, Rbm& sampler, const Batch& data, View<std::uint64_t> chains, const CdOptions& options);
    // The lists of both phases, for the step.
    void turn_lists(int share);
    // Both phases are sums of integers over as many rows: the step is their difference times one factor.
    bool has_one_factor() const;
    // The step of a bias, from its sums.
    float bias_step(double positive, double negative, float a_positive, float a_negative) const;

    Shares shares_;
    Phase positive_, negative_;
    SharedSums positive_sums_, chain_sums_;
    SharedProducts positive_products_;
    CarriedSums visible_sums_;
    Index n_visible_ = 0, n_hidden_ = 0;
    PendingUpdates pending_;
    bool pends_ = false;  // the update being made
    Buffer<std::uint64_t> visible_states_;
    View<std::uint64_t> states_;
    Buffer<float> label_x_;
    // Probabilities as integers, those of the negative phase negated: [block][row][64], the positive phase's rows
    // first.
    Buffer<std::int16_t> fixed_;
    const std::int16_t* steps_from_ = nullptr;  // these, or those of the updates pending
    Index fixed_rows_ = 0;
    // By share.
    std::vector<UnitLists> lists_;  // of the phases on the integer path
    std::vector<UnitLists> value_lists_;  // of a real-valued positive phase
    float a_positive_ = 0, a_negative_ = 0;
    Buffer<float> dense_step_;
    View<float> dense_;  // n_visible × n_hidden: the float32 path's part of the step
};

}  // namespace harmonium
