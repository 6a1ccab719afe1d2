#include "model/rbm.hpp"

#include <algorithm>

#include "model/products.hpp"

namespace harmonium {
namespace {

void pad(const float* from, Index n, Buffer<float>& to) {
    const Index padded = ceil_div(n, block_width) * block_width;
    std::copy_n(from, n, to.reserve_zeros(padded));
}

}  // namespace

Rbm::Rbm(Parameters parameters, Precision precision, int n_threads)
    : parameters_(parameters), precision_(precision), n_threads_(resolve_threads(n_threads)) {
    refresh_biases();
}

void Rbm::refresh_biases() {
    pad(parameters_.b, n_visible(), padded_b_);
    pad(parameters_.c, n_hidden(), padded_c_);
}

const float* Rbm::padded_bias(Direction d) { return d == Direction::up ? padded_c_.data() : padded_b_.data(); }

QuantizedMatrix& Rbm::quantized(Direction d) {
    if (d == Direction::up) {
        if (!has_up_) up_.assign(parameters_.w, n_threads_);
        has_up_ = true;
        return up_;
    }
    if (!has_down_) down_.assign_transposed(parameters_.w, n_threads_);
    has_down_ = true;
    return down_;
}

void half_step(Rbm& rbm, Direction direction, const Batch& batch, const HalfStep& out) {
    const Kernels& k = kernels();
    for_each_tile(rbm, direction, batch, false, [&](const Tile& tile) {
        const Index n = tile.rows * block_width, j0 = tile.block * block_width;
        k.sigmoid_f32(tile.x, n, tile.x);
        if (out.fixed)
            k.fix_probabilities(tile.x, n, out.fixed_factor,
                                out.fixed + (tile.block * batch.count + tile.row) * block_width);
        if (!out.states.empty())
            k.draw_bits_f32({tile.x, tile.rows, tile.cols, block_width}, out.draw,
                            out.row0 + static_cast<std::uint32_t>(tile.row), j0,
                            {out.states.row(tile.row) + tile.block, tile.rows, 1, out.states.stride});
        if (!out.probabilities.empty())
            for (Index r = 0; r < tile.rows; ++r)
                std::copy_n(tile.x + r * block_width, tile.cols, out.probabilities.row(tile.row + r) + j0);
    });
}

void preactivations(Rbm& rbm, Direction direction, const Batch& batch, View<float> out) {
    for_each_tile(rbm, direction, batch, false, [&](const Tile& tile) {
        for (Index r = 0; r < tile.rows; ++r)
            std::copy_n(tile.x + r * block_width, tile.cols, out.row(tile.row + r) + tile.block * block_width);
    });
}

namespace {

// One half of a Gibbs step; `last` also leaves the probabilities.
void draw_side(Rbm& rbm, Direction direction, const Batch& from, std::uint64_t seed, std::uint64_t step,
               std::uint32_t row0, const Chains& chains, bool last) {
    const bool up = direction == Direction::up;
    HalfStep out;
    out.states = up ? chains.h : chains.v;
    out.draw = {seed, step, static_cast<std::uint32_t>(up ? rng::Stream::hidden : rng::Stream::visible)};
    out.row0 = row0;
    if (last) out.probabilities = up ? chains.h_probabilities : chains.v_probabilities;
    half_step(rbm, direction, from, out);
}

}  // namespace

void gibbs_from_visible(Rbm& rbm, const Batch& start, Index n_steps, std::uint64_t seed, std::uint64_t step,
                        std::uint32_t row0, const Chains& chains) {
    const Rows v = Rows::bits(chains.v, rbm.n_visible()), h = Rows::bits(chains.h, rbm.n_hidden());
    for (Index t = 0; t < n_steps; ++t, ++step) {
        draw_side(rbm, Direction::up, t == 0 ? start : all_of(v), seed, step, row0, chains, t + 1 == n_steps);
        draw_side(rbm, Direction::down, all_of(h), seed, step, row0, chains, t + 1 == n_steps);
    }
}

void gibbs_from_hidden(Rbm& rbm, Index n_steps, std::uint64_t seed, std::uint64_t step, std::uint32_t row0,
                       const Chains& chains) {
    const Rows v = Rows::bits(chains.v, rbm.n_visible()), h = Rows::bits(chains.h, rbm.n_hidden());
    for (Index t = 0; t < n_steps; ++t, ++step) {
        draw_side(rbm, Direction::down, all_of(h), seed, step, row0, chains, t + 1 == n_steps);
        draw_side(rbm, Direction::up, all_of(v), seed, step, row0, chains, t + 1 == n_steps);
    }
}

}  // namespace harmonium
