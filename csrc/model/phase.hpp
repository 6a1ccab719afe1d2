// The two phases of contrastive divergence: what each leaves of visible units and hidden probabilities, and the lists
// that turn both into a step.
#pragma once

#include <vector>

#include "model/shares.hpp"

namespace harmonium {

// Rows as lists of units, on or not zero: those of row n end at start[(n + 1)·stride]. Binary rows have no values.
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
    bool is_empty(Index unit) const { return start_[unit] == start_[unit + 1]; }

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
    // Then, if rows weigh differently: by a weight for each row of the data, their mean 1. In this phase's sums a row
    // counts by its factor, which is its share of the heaviest in the batch, an integer on the integer path.
    void weigh(const Batch& visible, const double* weights);
    Index rows() const { return rows_; }
    bool is_integer() const { return is_integer_; }
    bool is_weighted() const { return row_factors_ != nullptr; }
    double row_factor(Index row) const { return static_cast<double>(row_factors_[row]); }
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
    // What makes a sum over the rows, of integers on the integer path, a mean times `rate`; weighted, if they are.
    float factor(double rate) const;
    // What such a sum is to be divided by to be a mean.
    double weight() const { return static_cast<double>(rows_) * (is_integer_ ? largest_ : 1) / heaviest_; }
    // The same of visible units, whose rows count as often as this.
    double visible_weight() const { return is_weighted() ? weight() : static_cast<double>(rows_); }
    double row_weight(Index row) const { return is_weighted() ? row_factor(row) : 1.0; }

    // Σ_n p_nj of a block, exact in integers on the integer path; Σ_n v_ni of a unit that is not listed. Of weighted
    // rows, each times its factor.
    void sum_hidden(Index block, double* sums) const;
    double sum_visible(Index unit) const;
    // Products with a phase's matrices, added to what is there, in the order of rows and units: of the visible states
    // of a share's units with weights of the units, rows[n] += Σ_i v_ni·weight_i, and with weights of the rows,
    // units[i] += Σ_n weight_n·v_ni; the same of the probabilities of a block's hidden units, integers on the integer
    // path.
    void add_visible_products(int share, const float* weights, double* rows) const;
    void add_visible_sums(int share, const double* weights, double* units) const;
    void add_hidden_products(Index block, const float* weights, double* rows) const;
    void add_hidden_sums(Index block, const double* weights, double* units) const;

    // Σ_n v_ni·p_nj of some units and one block, from lists of what is not zero.
    void sum_products(const ValueLists& values, Index units, Index block, float* sums) const;
    // As one product: step += factor·vᵀp.
    void add_product(float factor, View<float> step, int n_threads);

  private:
    struct Share {
        ListBuffer ones;
        ValueListBuffer values;
    };

    // f(row, unit of the share, value) for what is on, or not zero.
    template <class F>
    void for_each_visible(int share, F&& f) const;
    // f(row, p), p the probabilities of a block: integers, negated or not, or floats.
    template <class F>
    void for_each_hidden_row(Index block, F&& f) const;

    Shares shares_;
    std::vector<Share> share_;
    Index rows_ = 0, n_visible_ = 0, n_hidden_ = 0;
    bool is_integer_ = true, is_listed_ = true;
    // Integer path: where probabilities go.
    std::int16_t* fixed_ = nullptr;
    Index fixed_rows_ = 0;
    std::int32_t largest_ = 0;
    bool is_negated_ = false;
    double heaviest_ = 1;  // weight in the batch
    const float* row_factors_ = nullptr;  // of weighted rows
    Buffer<float> factors_;
    // Float32 path: matrices.
    Buffer<float> probabilities_, visible_, scaled_;
};

}  // namespace harmonium
