#include "model/cd.hpp"

#include <algorithm>
#include <numeric>

namespace harmonium {

void Phase::run(Rbm& rbm, const Batch& visible, HalfStep out) {
    rows_ = visible.count;
    n_visible_ = rbm.n_visible();
    n_hidden_ = rbm.n_hidden();
    is_integer_ = rbm.takes_integer_path(visible.rows);
    if (is_integer_) {
        largest_ = largest_term(rows_);
        out.fixed = fixed_.reserve(ceil_div(n_hidden_, block_width) * rows_ * block_width);
        out.fixed_factor = static_cast<float>(largest_);
        half_step(rbm, Direction::up, visible, out);
        transpose(visible);
    } else {
        // Copied once, for the product now and for the gradient later.
        visible_.reserve(rows_ * n_visible_);
        parallel_ranges(rows_, threads_for(static_cast<double>(rows_ * n_visible_), rbm.n_threads()),
                        [&](Index begin, Index end, int) {
                            for (Index n = begin; n < end; ++n)
                                visible.rows.copy_values(visible.row(n), &visible_[n * n_visible_]);
                        });
        const Rows values = Rows::real(View<const float>{visible_.data(), rows_, n_visible_, n_visible_});
        out.probabilities = {probabilities_.reserve(rows_ * n_hidden_), rows_, n_hidden_, n_hidden_};
        half_step(rbm, Direction::up, all_of(values), out);
    }
}

// The rows each unit is on in, from the units that are on in each row: a counting sort, so the rows of a unit ascend.
void Phase::transpose(const Batch& visible) {
    const Index room = ceil_div(n_visible_, block_width) * block_width;
    std::int32_t* ones = ones_.reserve(rows_ * room);
    Index* next = next_.reserve(rows_ + n_visible_);
    Index* row_end = next + n_visible_;
    Index* start = start_.reserve(n_visible_ + 1);
    std::fill_n(start, n_visible_ + 1, Index{0});
    Index total = 0;
    for (Index n = 0; n < rows_; ++n) {
        const Index count = visible.rows.list_ones(visible.row(n), ones + total);
        for (Index k = total; k < total + count; ++k) ++start[ones[k] + 1];
        row_end[n] = total += count;
    }
    std::partial_sum(start, start + n_visible_ + 1, start);
    std::copy_n(start, n_visible_, next);
    std::int32_t* index = index_.reserve(total);
    for (Index n = 0, k = 0; n < rows_; ++n)
        for (; k < row_end[n]; ++k) index[next[ones[k]]++] = static_cast<std::int32_t>(n);
}

float Phase::factor(double rate) const {
    return static_cast<float>(rate / (static_cast<double>(rows_) * (is_integer_ ? largest_ : 1)));
}

void Phase::mean_visible(double rate, float* out) const {
    const float a = static_cast<float>(rate / static_cast<double>(rows_));
    for (Index i = 0; i < n_visible_; ++i) {
        if (is_integer_) {
            out[i] = static_cast<float>(start_[i + 1] - start_[i]) * a;
        } else {
            double sum = 0;
            for (Index n = 0; n < rows_; ++n) sum += static_cast<double>(visible_[n * n_visible_ + i]);
            out[i] = static_cast<float>(sum) * a;
        }
    }
}

void Phase::mean_hidden(double rate, float* out) const {
    const float a = factor(rate);
    if (is_integer_) {
        for (Index j0 = 0; j0 < n_hidden_; j0 += block_width) {
            const std::int16_t* p = fixed_.data() + j0 * rows_;
            std::int32_t sum[block_width] = {};
            for (Index n = 0; n < rows_; ++n)
                for (Index j = 0; j < block_width; ++j) sum[j] += p[n * block_width + j];
            for (Index j = j0; j < std::min(j0 + block_width, n_hidden_); ++j)
                out[j] = static_cast<float>(sum[j - j0]) * a;
        }
        return;
    }
    for (Index j = 0; j < n_hidden_; ++j) {
        double sum = 0;
        for (Index n = 0; n < rows_; ++n) sum += static_cast<double>(probabilities_[n * n_hidden_ + j]);
        out[j] = static_cast<float>(sum) * a;
    }
}

void Phase::sum_tile(Index first, Index last, Index block, std::int32_t* acc) const {
    kernels().sum_rows_i16({index_.data(), start_.data()}, first, last, fixed_.data() + block * rows_ * block_width,
                           acc);
}

void Phase::add_product(float alpha, float beta, View<float> step, int n_threads) const {
    sgemm(Transpose::yes, Transpose::no, alpha, {visible_.data(), rows_, n_visible_, n_visible_},
          {probabilities_.data(), rows_, n_hidden_, n_hidden_}, beta, step, n_threads);
}

void ContrastiveDivergence::require_finite_biases(const Rbm& rbm) {
    const Kernels& k = kernels();
    const std::uint32_t most =
        std::max(k.max_abs_f32(rbm.parameters().b, rbm.n_visible()), k.max_abs_f32(rbm.parameters().c, rbm.n_hidden()));
    constexpr std::uint32_t infinity = 0x7f800000u;
    if (most >= infinity) throw NonFiniteParameters("the biases");
}

void ContrastiveDivergence::run(Rbm& rbm, const Batch& data, View<std::uint64_t> chains, const CdOptions& options) {
    n_visible_ = rbm.n_visible();
    n_hidden_ = rbm.n_hidden();
    const Index words = ceil_div(n_visible_, block_width);
    const View<std::uint64_t> states{visible_states_.reserve(chains.rows * words), chains.rows, words, words};
    const Rows v = Rows::bits(states, n_visible_), h = Rows::bits(chains, n_hidden_);
    const auto draw = [&](View<std::uint64_t> to, rng::Stream stream, std::uint64_t step) {
        HalfStep out;
        out.states = to;
        out.draw = {options.seed, step, static_cast<std::uint32_t>(stream)};
        return out;
    };

    positive_.run(rbm, data, options.persistent ? HalfStep{} : draw(chains, rng::Stream::hidden_start, options.step));
    for (Index t = 0; t < options.n_gibbs_steps; ++t) {
        const std::uint64_t step = options.step + static_cast<std::uint64_t>(t);
        const bool last = t + 1 == options.n_gibbs_steps;
        half_step(rbm, Direction::down, all_of(h), draw(states, rng::Stream::visible, step));
        const HalfStep up = last && !options.persistent ? HalfStep{} : draw(chains, rng::Stream::hidden, step);
        if (last)
            negative_.run(rbm, all_of(v), up);
        else
            half_step(rbm, Direction::up, all_of(v), up);
    }
}

void ContrastiveDivergence::bias_steps(double rate, float* b_step, float* c_step) {
    float* negative = bias_step_.reserve(std::max(n_visible_, n_hidden_));
    positive_.mean_visible(rate, b_step);
    negative_.mean_visible(rate, negative);
    for (Index i = 0; i < n_visible_; ++i) b_step[i] -= negative[i];
    positive_.mean_hidden(rate, c_step);
    negative_.mean_hidden(rate, negative);
    for (Index j = 0; j < n_hidden_; ++j) c_step[j] -= negative[j];
}

void ContrastiveDivergence::begin_weight_steps(double rate, int n_threads) {
    a_positive_ = positive_.factor(rate);
    a_negative_ = negative_.factor(rate);
    dense_ = {};
    if (positive_.is_integer()) return;
    dense_ = {dense_step_.reserve(n_visible_ * n_hidden_), n_visible_, n_hidden_, n_hidden_};
    positive_.add_product(a_positive_, 0.0f, dense_, n_threads);
    if (!negative_.is_integer()) negative_.add_product(-a_negative_, 1.0f, dense_, n_threads);
}

void ContrastiveDivergence::weight_step(Index first, Index last, Index block, float* step) const {
    const Kernels& k = kernels();
    const Index n = (last - first) * block_width;
    alignas(64) std::int32_t negative[tile_units * block_width];
    if (negative_.is_integer()) negative_.sum_tile(first, last, block, negative);
    if (positive_.is_integer()) {
        alignas(64) std::int32_t positive[tile_units * block_width];
        positive_.sum_tile(first, last, block, positive);
        k.difference_i32(positive, negative, n, a_positive_, a_negative_, step);
        return;
    }
    const Index j0 = block * block_width, cols = std::min(block_width, n_hidden_ - j0);
    for (Index i = first; i < last; ++i, step += block_width) {
        if (negative_.is_integer())
            k.difference_f32(dense_.row(i) + j0, negative + (i - first) * block_width, cols, a_negative_, step);
        else
            std::copy_n(dense_.row(i) + j0, cols, step);
    }
}

void ContrastiveDivergence::gradient(View<float> w, float* b, float* c, int n_threads) {
    bias_steps(1.0, b, c);
    begin_weight_steps(1.0, n_threads);
    const double work = static_cast<double>(w.rows) * static_cast<double>(w.cols);
    parallel_ranges(ceil_div(w.rows, tile_units), threads_for(work, n_threads), [&](Index begin, Index end, int) {
        alignas(64) float step[tile_units * block_width];
        for (Index first = begin * tile_units; first < std::min(end * tile_units, w.rows); first += tile_units)
            for (Index j0 = 0; j0 < w.cols; j0 += block_width) {
                const Index last = std::min(first + tile_units, w.rows);
                weight_step(first, last, j0 / block_width, step);
                for (Index i = first; i < last; ++i)
                    std::copy_n(step + (i - first) * block_width, std::min(block_width, w.cols - j0), w.row(i) + j0);
            }
    });
}

}  // namespace harmonium
