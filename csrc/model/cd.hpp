// Contrastive divergence: the statistics of one minibatch and its chains, and the step they ask for
// (docs/numerics.md, section 6).
//
// Visible units are dealt to threads once and for all, a share each. A thread updates the weights of its own units,
// draws them, lists those that are on, and sums their rows of weights, so that no other core touches its part of W or
// of the 16-bit copies. What threads exchange are the sums of the hidden units: a part from each share, added up where
// a block of hidden units is finished.
#pragma once

#include <vector>

#include "model/products.hpp"
#include "model/rbm.hpp"

namespace harmonium {

struct CdOptions {
    Index n_gibbs_steps = 1;
    bool persistent = true;  // chains start from the hidden states given; else from the data
    std::uint64_t seed = 0;
    std::uint64_t step = 0;  // number of the first Gibbs step
};

constexpr Index tile_units = 8;  // visible units whose weights are updated together: one 8 × 8 transpose high
constexpr Index step_blocks = 4;  // blocks of hidden units whose step is computed at once: 8 KB

// The visible units that a thread works on: whole blocks.
class Shares {
  public:
    Shares() = default;
    Shares(Index units, int count) : units_(units), count_(count) {}
    int count() const { return count_; }
    Range blocks(int share) const {
        const Index all = ceil_div(units_, block_width);
        return {all * share / count_, all * (share + 1) / count_};
    }
    Range units(int share) const {
        const Range b = blocks(share);
        return {b.begin * block_width, std::min(b.end * block_width, units_)};
    }
    // f(share) for each, on a thread of its own: the same thread every time.
    template <class F>
    void for_each(F&& f) const {
        parallel_ranges(count_, count_, [&](Index begin, Index end, int) {
            for (Index share = begin; share < end; ++share) f(static_cast<int>(share));
        });
    }
    // f(block) for each of some blocks of hidden units, dealt to as many threads: teams of another size would make
    // libgomp end threads and start them again.
    template <class F>
    void for_each_block(Index n_blocks, F&& f) const {
        for_each([&](int share) {
            for (Index b = n_blocks * share / count_; b < n_blocks * (share + 1) / count_; ++b) f(b);
        });
    }

  private:
    Index units_ = 0;
    int count_ = 1;
};

// Integer sums of hidden units in parts: each share sums over its own visible units.
class SharedSums {
  public:
    // Sums for so many rows are to come; nothing is known.
    void begin(const Shares& shares, Rbm& rbm, Index rows);
    // A share's part for visible states, from the part of before if there is one; `ones` are lists of the states, if
    // there are some. With `carry` this part is kept for the next.
    void sum(int share, Rbm& rbm, const Batch& visible, const ListBuffer* ones, bool carry);
    // All parts together: some rows of a block.
    void gather(Index block, Index row, Index rows, std::int32_t* acc);

  private:
    Shares shares_;
    Index rows_ = 0;
    std::vector<CarriedSums> parts_;
};

// The same of real-valued rows: float32 sums of rows of W.
class SharedProducts {
  public:
    void begin(const Shares& shares, Index rows, Index blocks);
    void sum(int share, View<const float> w, const ValueLists& rows);
    void gather(Index block, Index row, Index rows, float* sums) const;

  private:
    Shares shares_;
    Index rows_ = 0;
    std::vector<Buffer<float>> parts_;  // [block][row][64]
};

// The visible units and hidden probabilities of one phase, in the form the step wants them.
class Phase {
  public:
    // On the integer path, and `by_shares`, the shares will list what is on, or not zero.
    void begin(const Shares& shares, Rbm& rbm, Index rows, bool is_integer, bool by_shares);
    bool is_integer() const { return is_integer_; }
    bool is_listed() const { return is_listed_; }

    // p(h|v) of a batch, kept; `out` may ask for drawn states besides. The product is dealt to threads as it likes.
    void run(Rbm& rbm, const Batch& visible, const HalfStep& out);
    // Its parts, where a share takes care of its own units. Which of them are on, or are not zero.
    const ListBuffer& list(int share, const Batch& visible);
    const ValueLists& list_values(int share, const Batch& visible);
    // `out` completed by where this phase keeps probabilities.
    HalfStep kept(HalfStep out);

    // Σ_n v_ni times what makes it a mean times `rate`, for a share's units; Σ_n p_nj likewise, for a block.
    void mean_visible(double rate, int share, float* out) const;
    void mean_hidden(double rate, Index block, float* out) const;
    // What makes an integer sum a mean times `rate`.
    float factor(double rate) const;
    // Integer path: lists of the rows that a share's units are on in, from unit `first` on, and what they select from.
    ActiveLists rows_of(int share, Index first) const;
    const std::int16_t* fixed(Index block) const { return fixed_.data() + block * fixed_stride(); }
    Index fixed_stride() const { return rows_ * block_width; }
    // Float32 path, by shares: Σ_n v_ni·p_nj of tile_units units at most and one block.
    void sum_products(int share, Index first, Index last, Index block, float* sums) const;
    // As one product: step = alpha·vᵀp + beta·step.
    void add_product(float alpha, float beta, View<float> step, int n_threads) const;

  private:
    struct Share {
        ListBuffer lists;
        ValueListBuffer value_lists;
        Buffer<std::int32_t> index;  // the rows each unit is on in
        Buffer<float> value;  // and real values there
        Buffer<Index> start, next;
    };
    template <class RowEnd>
    void transpose(Share& share, Index n_units, const std::int32_t* index, const float* value, RowEnd&& row_end) const;

    Shares shares_;
    std::vector<Share> share_;
    Index rows_ = 0, n_visible_ = 0, n_hidden_ = 0;
    bool is_integer_ = true, is_listed_ = true;
    std::int32_t largest_ = 0;
    // Integer path: probabilities as integers, [block][row][64].
    Buffer<std::int16_t> fixed_;
    // Float32 path: the same as matrices.
    Buffer<float> probabilities_, visible_;
};

class ContrastiveDivergence {
  public:
    // Infinite biases have no gradient, and NaN none that would show: throws NonFiniteParameters.
    static void require_finite_biases(const Rbm& rbm);
    // Runs both phases. `chains` holds the hidden states, one row a chain; with CD it is only written.
    void run(Rbm& rbm, const Batch& data, View<std::uint64_t> chains, const CdOptions& options);

    // Then, the whole gradient:
    void gradient(View<float> w, float* b, float* c, int n_threads);
    // or the step at learning rate `rate`, piece by piece. For the biases of a share's units and of a block:
    void visible_bias_step(double rate, int share, float* step);
    void hidden_bias_step(double rate, Index block, float* step) const;
    // For W, after begin_weight_steps: step[block][8][64] of a share's units first … last − 1 (at most tile_units) and
    // some blocks of hidden units (at most step_blocks); is_silent tells that it would be zero.
    void begin_weight_steps(double rate, int n_threads);
    void weight_step(int share, Index first, Index last, Range blocks, float* step) const;
    bool is_silent(int share, Index first, Index last) const;
    const Shares& shares() const { return shares_; }

  private:
    void run_by_shares(Rbm& rbm, const Batch& data, View<std::uint64_t> chains, const CdOptions& options);
    void run_by_rows(Rbm& rbm, const Batch& data, View<std::uint64_t> chains, const CdOptions& options);

    Shares shares_;
    Phase positive_, negative_;
    SharedSums positive_sums_, chain_sums_;
    SharedProducts positive_products_;
    CarriedSums visible_sums_;
    Index n_visible_ = 0, n_hidden_ = 0;
    float a_positive_ = 0, a_negative_ = 0;
    Buffer<std::uint64_t> visible_states_;
    Buffer<float> dense_step_, negative_step_;
    View<float> dense_;  // n_visible × n_hidden: the float32 path's part of the step
};

}  // namespace harmonium
