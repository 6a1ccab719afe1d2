#include "model/rbm.hpp"

#include <algorithm>

#include "model/products.hpp"

namespace harmonium {
Rbm::Rbm(Parameters parameters, Precision precision, int n_threads, Index n_labels)
    : parameters_(parameters), precision_(precision), n_threads_(resolve_threads(n_threads)), n_labels_(n_labels) {
    for (const Direction d : {Direction::up, Direction::down})
        (d == Direction::up ? padded_c_ : padded_b_).reserve_zeros(ceil_div(outputs(d), block_width) * block_width);
    renew();
}

void Rbm::renew() {
    for (const Direction d : {Direction::up, Direction::down}) refresh_bias(d, 0, outputs(d));
    if (has_up_) up_.assign(parameters_.w, n_threads_);
    if (has_down_) down_.assign_transposed(parameters_.w, n_threads_);
}

void Rbm::refresh_bias(Direction d, Index begin, Index end) {
    const bool up = d == Direction::up;
    std::copy(&(up ? parameters_.c : parameters_.b)[begin], &(up ? parameters_.c : parameters_.b)[end],
              (up ? padded_c_ : padded_b_).data() + begin);
}

const float* Rbm::padded_bias(Direction d) { return d == Direction::up ? padded_c_.data() : padded_b_.data(); }

QuantizedMatrix& Rbm::quantized(Direction d) {
    if (d == Direction::up) {
        // Written once, by the thread that asks first: later all of them read.
        if (!has_up_) {
            up_.assign(parameters_.w, n_threads_);
            has_up_ = true;
        }
        return up_;
    }
    if (!has_down_) {
        down_.assign_transposed(parameters_.w, n_threads_);
        has_down_ = true;
    }
    return down_;
}

Temperature::Temperature(Rbm& rbm, const float* base_bias) : rbm_(rbm), base_bias_(base_bias) {
    for (const Direction d : {Direction::up, Direction::down}) {
        const Index room = ceil_div(rbm.outputs(d), block_width) * block_width;
        scale_of(d).reserve_zeros(room);
        bias_of(d).reserve_zeros(room);
    }
}

void Temperature::set(double beta) {
    beta_ = beta;
    const bool is_integer = rbm_.precision() == Precision::automatic;
    for (const Direction d : {Direction::up, Direction::down}) {
        const float* own = rbm_.padded_bias(d);
        for (Index j = 0; j < rbm_.outputs(d); ++j) {
            const double base = d == Direction::down ? static_cast<double>(base_bias_[j]) : 0.0;
            bias_of(d)[j] = static_cast<float>((1 - beta) * base + beta * static_cast<double>(own[j]));
            if (is_integer)
                scale_of(d)[j] = static_cast<float>(beta * static_cast<double>(rbm_.quantized(d).scale()[j]));
        }
    }
}

Tile Temperature::of(Direction direction, const Tile& tile, float* x) const {
    const Index j0 = tile.block * block_width;
    Tile here = tile;
    here.x = x;
    if (tile.acc) {
        here.scale = scale_of(direction).data() + j0;
        here.bias = bias_of(direction).data() + j0;
        return here;
    }
    const float* own = rbm_.padded_bias(direction) + j0;
    const float* bias = bias_of(direction).data() + j0;
    const auto beta = static_cast<float>(beta_);
    for (Index r = 0; r < tile.rows; ++r)
        for (Index j = 0; j < block_width; ++j)
            x[r * block_width + j] = (tile.x[r * block_width + j] - own[j]) * beta + bias[j];
    return here;
}

namespace {

void keep_labels(const Tile& tile, const HalfStep& out) {
    const Index j0 = tile.block * block_width, n = out.labels.end - out.labels.begin;
    const Index begin = std::max(out.labels.begin, j0), end = std::min(out.labels.end, j0 + tile.cols);
    if (begin >= end) return;
    tile.fill();
    for (Index r = 0; r < tile.rows; ++r)
        std::copy_n(tile.x + r * block_width + begin - j0, end - begin,
                    out.label_x + (tile.row + r) * n + begin - out.labels.begin);
}

}  // namespace

void draw_labels(const HalfStep& out, Index rows) {
    const Index n = out.labels.end - out.labels.begin;
    rng::Draw draw = out.draw;
    // The first states of a chain have the number of its first step: other words for their labels.
    const std::uint32_t place = draw.stream == static_cast<std::uint32_t>(rng::Stream::visible) ? 0 : 1;
    draw.stream = static_cast<std::uint32_t>(rng::Stream::label);
    for (Index r = 0; r < rows; ++r) {
        float* p = out.label_x + r * n;
        kernels().softmax_f32(p, n);
        if (!out.probabilities.empty()) std::copy_n(p, n, out.probabilities.row(r) + out.labels.begin);
        if (out.states.empty()) continue;
        const rng::Counter words = rng::philox4x32({out.number(r), place, draw.word2(), draw.word3()}, draw.seed);
        const float u = static_cast<float>(words[0] >> 8) * 0x1p-24f;
        Index chosen = 0;
        for (float sum = p[0]; chosen + 1 < n && !(u < sum); sum += p[chosen]) ++chosen;
        std::uint64_t* state = out.states.row(r);
        for (Index k = 0; k < n; ++k) {
            const Index i = out.labels.begin + k;
            const std::uint64_t bit = std::uint64_t{1} << i % block_width;
            state[i / block_width] = k == chosen ? state[i / block_width] | bit : state[i / block_width] & ~bit;
        }
    }
}

namespace {

// A tile whose rows have numbers or factors of their own: as many tiles of one row.
void finish_rows(const Tile& tile, const HalfStep& out) {
    HalfStep one = out;
    one.numbers = nullptr;
    one.row_factors = nullptr;
    for (Index r = 0; r < tile.rows; ++r) {
        const Index row = tile.row + r, at = r * block_width;
        one.row0 = out.number(row) - static_cast<std::uint32_t>(row);  // to which the row is added
        if (out.row_factors) one.fixed_factor = out.row_factors[row];
        finish_tile(
            {row, 1, tile.block, tile.cols, tile.x + at, tile.acc ? tile.acc + at : nullptr, tile.scale, tile.bias},
            one);
        if (!out.row_factors || out.probabilities.empty()) continue;
        float* p = out.probabilities.row(row) + tile.block * block_width;
        for (Index j = 0; j < tile.cols; ++j) p[j] *= out.row_factors[row];
    }
}

}  // namespace

void finish_tile(const Tile& tile, const HalfStep& out) {
    if (out.numbers || out.row_factors) return finish_rows(tile, out);
    keep_labels(tile, out);
    const Kernels& k = kernels();
    const Index n = tile.rows * block_width, j0 = tile.block * block_width;
    const auto row0 = out.row0 + static_cast<std::uint32_t>(tile.row);
    const View<std::uint64_t> words = out.states.empty() ? View<std::uint64_t>{}
                                                         : View<std::uint64_t>{out.states.row(tile.row) + tile.block,
                                                                               tile.rows, 1, out.states.stride};
    if (tile.acc && !out.fixed && out.probabilities.empty()) {
        if (!words.empty()) k.draw_sums_i32(tile.acc, tile.cols, tile.scale, tile.bias, out.draw, row0, j0, words);
        return;
    }
    if (!tile.acc && !out.fixed && out.probabilities.empty()) {
        if (!words.empty()) k.draw_logits_f32(tile.x, tile.cols, out.draw, row0, j0, words);
        return;
    }
    tile.fill();
    k.sigmoid_f32(tile.x, n, tile.x);
    if (out.fixed)
        k.fix_probabilities(tile.x, n, out.fixed_factor,
                            out.fixed + (tile.block * out.fixed_rows + tile.row) * block_width);
    if (!words.empty()) k.draw_bits_f32({tile.x, tile.rows, tile.cols, block_width}, out.draw, row0, j0, words);
    if (!out.probabilities.empty())
        for (Index r = 0; r < tile.rows; ++r)
            std::copy_n(tile.x + r * block_width, tile.cols, out.probabilities.row(tile.row + r) + j0);
}

void half_step(Rbm& rbm, Direction direction, const Batch& batch, const HalfStep& out, const Pass& pass) {
    thread_local Buffer<float> label_x;
    HalfStep to = out;
    if (direction == Direction::down && rbm.n_labels() > 0) {
        to.labels = rbm.labels();
        to.label_x = label_x.reserve(batch.count * rbm.n_labels());
    }
    for_each_tile(rbm, direction, batch, pass, [&](const Tile& tile) {
        alignas(64) float x[tile_rows * block_width];
        finish_tile(pass.temperature ? pass.temperature->of(direction, tile, x) : tile, to);
    });
    if (to.label_x) draw_labels(to, batch.count);
}

void half_step(Rbm& rbm, Direction direction, const Batch& batch, const HalfStep& out) {
    half_step(rbm, direction, batch, out, Pass{rbm.n_threads()});
}

void preactivations(Rbm& rbm, Direction direction, const Batch& batch, View<float> out) {
    for_each_tile(rbm, direction, batch, Pass{rbm.n_threads()}, [&](const Tile& tile) {
        tile.fill();
        for (Index r = 0; r < tile.rows; ++r)
            std::copy_n(tile.x + r * block_width, tile.cols, out.row(tile.row + r) + tile.block * block_width);
    });
}

}  // namespace harmonium
