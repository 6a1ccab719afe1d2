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
constexpr Index line_units = 32;  // as many 16-bit weights of the transposed copy as a cache line holds
constexpr Index step_blocks = 4;  // blocks of hidden units whose step is computed at once, at most: 8 KB

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

// Rows as lists of units, on or not zero: those of row n end at start[(n + 1)·stride]. Zeros and ones have no values.
struct RowLists {
    Index rows = 0;
    const std::int32_t* index = nullptr;
    const float* value = nullptr;
    const Index* start = nullptr;
    Index stride = 1;

    Index end(Index row) const { return start[(row + 1) * stride]; }
    Index size() const { return rows > 0 ? end(rows - 1) : 0; }
};

// The same turned round: the rows in which each of a share's units is on, or not zero.
class UnitLists {
  public:
    // Of one phase, or of both: the rows of the second are counted on from those of the first.
    void fill(Index n_units, const RowLists& first, const RowLists& second);
    // From a unit on.
    ActiveLists rows(Index unit) const { return {index_.data(), start_.data() + unit}; }
    ValueLists values(Index unit) const { return {index_.data(), value_.data(), start_.data() + unit}; }
    // Where the rows of the second phase begin in each list.
    const Index* middle(Index unit) const { return middle_.data() + unit; }
    bool is_empty(Index first, Index last) const { return start_[first] == start_[last]; }

  private:
    void place(const RowLists& lists, Index row0);

    Buffer<std::int32_t> index_;
    Buffer<float> value_;
    Buffer<Index> start_, middle_, next_;
};

// What one phase has of visible units and hidden probabilities.
class Phase {
  public:
    // On the integer path, and `by_shares`, the shares list what is on, or not zero.
    void begin(const Shares& shares, Rbm& rbm, Index rows, bool is_integer, bool by_shares);
    Index rows() const { return rows_; }
    bool is_integer() const { return is_integer_; }
    bool is_listed() const { return is_listed_; }

    // p(h|v) of a batch, kept; `out` may ask for drawn states besides. The product is dealt to threads as it likes.
    void run(Rbm& rbm, const Batch& visible, const HalfStep& out);
    // Its parts, where a share takes care of its own units. Which of them are on, or are not zero.
    const ListBuffer& list(int share, const Batch& visible);
    const ValueLists& list_values(int share, const Batch& visible);
    RowLists listed(int share) const;
    // Where the integers of p(h|v) go, [block][row][64] with so many rows a block; those of the negative phase negated.
    void keep_integers(std::int16_t* fixed, Index fixed_rows, bool negated);
    // `out` completed by where this phase keeps probabilities.
    HalfStep kept(HalfStep out);
    // What makes a sum over the rows, of integers on the integer path, a mean times `rate`.
    float factor(double rate) const;

    // Σ_n p_nj of a block, exact in integers on the integer path; Σ_n v_ni of a unit that is not listed.
    void sum_hidden(Index block, double* sums) const;
    double sum_visible(Index unit) const;
    // Σ_n v_ni·p_nj of some units and one block, from lists of what is not zero.
    void sum_products(const ValueLists& values, Index units, Index block, float* sums) const;
    // As one product: step = alpha·vᵀp + beta·step.
    void add_product(float alpha, float beta, View<float> step, int n_threads) const;

  private:
    struct Share {
        ListBuffer ones;
        ValueListBuffer values;
    };

    Shares shares_;
    std::vector<Share> share_;
    Index rows_ = 0, n_visible_ = 0, n_hidden_ = 0;
    bool is_integer_ = true, is_listed_ = true;
    // Integer path: where probabilities go.
    std::int16_t* fixed_ = nullptr;
    Index fixed_rows_ = 0;
    std::int32_t largest_ = 0;
    bool is_negated_ = false;
    // Float32 path: matrices.
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
    void visible_bias_step(double rate, int share, float* step) const;
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
    Buffer<std::uint64_t> visible_states_;
    // Probabilities as integers, those of the negative phase negated: [block][row][64], the positive phase's rows
    // first.
    Buffer<std::int16_t> fixed_;
    Index fixed_rows_ = 0;
    // By share.
    std::vector<UnitLists> lists_;  // of the phases on the integer path
    std::vector<UnitLists> value_lists_;  // of a real-valued positive phase
    float a_positive_ = 0, a_negative_ = 0;
    Buffer<float> dense_step_;
    View<float> dense_;  // n_visible × n_hidden: the float32 path's part of the step
};

}  // namespace harmonium
