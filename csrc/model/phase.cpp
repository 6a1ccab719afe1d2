#include "model/phase.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace harmonium {

void UnitLists::fill(Index n_units, const RowLists& first, const RowLists& second) {
    Index* start = start_.reserve_zeros(n_units + 1);
    for (const RowLists* lists : {&first, &second})
        for (Index k = 0; k < lists->size(); ++k) ++start[lists->index[k] + 1];
    std::partial_sum(start, start + n_units + 1, start);
    index_.reserve(first.size() + second.size());
    if (first.value) value_.reserve(first.size());
    std::copy_n(start, n_units, next_.reserve(n_units));
    place(first, 0);
    std::copy_n(next_.data(), n_units, middle_.reserve(n_units));
    place(second, first.rows);
}

// A counting sort, so the rows of a unit ascend.
void UnitLists::place(const RowLists& lists, Index row0) {
    Index* next = next_.data();
    for (Index n = 0, k = 0; n < lists.rows; ++n)
        for (; k < lists.end(n); ++k) {
            const Index place = next[lists.index[k]]++;
            index_[place] = static_cast<std::int32_t>(row0 + n);
            if (lists.value) value_[place] = lists.value[k];
        }
}

void Phase::begin(const Shares& shares, Rbm& rbm, Index rows, bool is_integer, bool by_shares) {
    shares_ = shares;
    share_.resize(static_cast<std::size_t>(shares.count()));
    rows_ = rows;
    n_visible_ = rbm.n_visible();
    n_hidden_ = rbm.n_hidden();
    is_integer_ = is_integer;
    is_listed_ = is_integer || by_shares;
    largest_ = is_integer ? largest_term(rows) : 0;
    heaviest_ = 1;
    row_factors_ = nullptr;
}

void Phase::weigh(const Batch& visible, const double* weights) {
    float* const factors = factors_.reserve(rows_);
    heaviest_ = 0;
    for (Index n = 0; n < rows_; ++n) heaviest_ = std::max(heaviest_, weights[visible.row(n)]);
    for (Index n = 0; n < rows_; ++n) {
        const double share = heaviest_ > 0 ? weights[visible.row(n)] / heaviest_ : 0;
        factors[n] = static_cast<float>(is_integer_ ? std::nearbyint(share * largest_) : share);
    }
    row_factors_ = factors;
}

void Phase::keep_integers(std::int16_t* fixed, Index fixed_rows, bool negated) {
    fixed_ = fixed;
    fixed_rows_ = fixed_rows;
    is_negated_ = negated;
}

HalfStep Phase::kept(HalfStep out) {
    out.row_factors = row_factors_;
    if (is_integer_) {
        out.fixed = fixed_;
        out.fixed_rows = fixed_rows_;
        out.fixed_factor = static_cast<float>(is_negated_ ? -largest_ : largest_);
    } else {
        out.probabilities = {probabilities_.reserve(rows_ * n_hidden_), rows_, n_hidden_, n_hidden_};
    }
    return out;
}

void Phase::run(Rbm& rbm, const Batch& visible, const HalfStep& out) {
    if (is_integer_) {
        half_step(rbm, Direction::up, visible, kept(out));
        shares_.for_each([&](int share) { list(share, visible); });
        return;
    }
    // Copied once, for the product now and for the gradient later.
    visible_.reserve(rows_ * n_visible_);
    parallel_ranges(rows_, threads_for(static_cast<double>(rows_ * n_visible_), rbm.n_threads()),
                    [&](Index begin, Index end, int) {
                        for (Index n = begin; n < end; ++n)
                            visible.rows.copy_values(visible.row(n), &visible_[n * n_visible_]);
                    });
    const Rows values = Rows::real(View<const float>{visible_.data(), rows_, n_visible_, n_visible_});
    half_step(rbm, Direction::up, all_of(values), kept(out));
}

const ListBuffer& Phase::list(int share, const Batch& visible) {
    ListBuffer& ones = share_[static_cast<std::size_t>(share)].ones;
    ones.fill_ones(visible, 0, rows_, shares_.units(share));
    return ones;
}

const ValueLists& Phase::list_values(int share, const Batch& visible) {
    return share_[static_cast<std::size_t>(share)].values.fill(visible, 0, rows_, shares_.units(share));
}

RowLists Phase::listed(int share) const {
    const Share& mine = share_[static_cast<std::size_t>(share)];
    if (is_integer_) return {rows_, mine.ones.lists().index, nullptr, mine.ones.lists().start, 2};
    return {rows_, mine.values.lists().index, mine.values.lists().value, mine.values.lists().start, 1};
}

float Phase::factor(double rate) const {
    return static_cast<float>(rate * heaviest_ / (static_cast<double>(rows_) * (is_integer_ ? largest_ : 1)));
}

double Phase::sum_visible(Index unit) const {
    double sum = 0;
    for (Index n = 0; n < rows_; ++n)
        sum += static_cast<double>(visible_[n * n_visible_ + unit]) * (is_weighted() ? row_factor(n) : 1);
    return sum;
}

void Phase::sum_hidden(Index block, double* sums) const {
    const Index j0 = block * block_width, cols = std::min(block_width, n_hidden_ - j0);
    std::fill_n(sums, cols, 0.0);
    if (!is_integer_) {
        for (Index n = 0; n < rows_; ++n)
            for (Index j = 0; j < cols; ++j) sums[j] += static_cast<double>(probabilities_[n * n_hidden_ + j0 + j]);
        return;
    }
    std::int32_t sum[block_width];
    kernels().sum_all_rows_i16(fixed_ + block * fixed_rows_ * block_width, rows_, sum);
    for (Index j = 0; j < cols; ++j) sums[j] = is_negated_ ? -sum[j] : sum[j];
}

template <class F>
void Phase::for_each_visible(int share, F&& f) const {
    if (is_listed_) {
        const RowLists lists = listed(share);
        for (Index n = 0, k = 0; n < rows_; ++n)
            for (; k < lists.end(n); ++k) f(n, lists.index[k], lists.value ? static_cast<double>(lists.value[k]) : 1.0);
        return;
    }
    const Range units = shares_.units(share);
    for (Index n = 0; n < rows_; ++n)
        for (Index i = units.begin; i < units.end; ++i)
            f(n, i - units.begin, static_cast<double>(visible_[n * n_visible_ + i]));
}

void Phase::add_visible_products(int share, const float* weights, double* rows) const {
    for_each_visible(share, [&](Index n, Index i, double v) { rows[n] += v * static_cast<double>(weights[i]); });
}

void Phase::add_visible_sums(int share, const double* weights, double* units) const {
    for_each_visible(share, [&](Index n, Index i, double v) { units[i] += weights[n] * v; });
}

template <class F>
void Phase::for_each_hidden_row(Index block, F&& f) const {
    for (Index n = 0; n < rows_; ++n)
        if (is_integer_)
            f(n, fixed_ + (block * fixed_rows_ + n) * block_width);
        else
            f(n, probabilities_.data() + n * n_hidden_ + block * block_width);
}

void Phase::add_hidden_products(Index block, const float* weights, double* rows) const {
    const Index cols = std::min(block_width, n_hidden_ - block * block_width);
    const double sign = is_integer_ && is_negated_ ? -1 : 1;
    for_each_hidden_row(block, [&](Index n, const auto* p) {
        double sum = 0;
        for (Index j = 0; j < cols; ++j) sum += static_cast<double>(p[j]) * static_cast<double>(weights[j]);
        rows[n] += sign * sum;
    });
}

void Phase::add_hidden_sums(Index block, const double* weights, double* units) const {
    const Index cols = std::min(block_width, n_hidden_ - block * block_width);
    const double sign = is_integer_ && is_negated_ ? -1 : 1;
    for_each_hidden_row(block, [&](Index n, const auto* p) {
        const double weight = sign * weights[n];
        for (Index j = 0; j < cols; ++j) units[j] += weight * static_cast<double>(p[j]);
    });
}

void Phase::sum_products(const ValueLists& values, Index units, Index block, float* sums) const {
    const Index j0 = block * block_width, cols = std::min(block_width, n_hidden_ - j0);
    kernels().sum_values_f32(values, 0, units, {probabilities_.data() + j0, rows_, cols, n_hidden_}, sums);
}

void Phase::add_product(float factor, View<float> step, int n_threads) {
    const Index n = rows_ * n_hidden_;
    float* scaled = scaled_.reserve(n);  // rather than the sums, of which there are more
    for (Index k = 0; k < n; ++k) scaled[k] = factor * probabilities_[k];
    const View<const float> p{scaled, rows_, n_hidden_, n_hidden_};
    parallel_ranges(
        n_visible_, threads_for(static_cast<double>(n * n_visible_), n_threads), [&](Index begin, Index end, int) {
            kernels().multiply_f32({visible_.data() + begin, 1, n_visible_, p, step.row_range(begin, end), 1.0f});
        });
}

}  // namespace harmonium
