// Free energies and the pseudo-likelihood (docs/numerics.md, section 5).
#include <algorithm>
#include <cmath>
#include <vector>

#include "model/energy.hpp"
#include "model/products.hpp"
#include "model/rbm.hpp"

namespace harmonium {
namespace {

// Σ b_i v_i in order of i.
double visible_term(const Rbm& rbm, const Batch& batch, Index n, std::int32_t* ones, float* values) {
    const float* b = rbm.parameters().b;
    double total = 0;
    if (batch.rows.is_binary()) {
        const Index count = batch.rows.list_ones(batch.row(n), ones);
        for (Index k = 0; k < count; ++k) total += static_cast<double>(b[ones[k]]);
    } else {
        batch.rows.copy_values(batch.row(n), values);
        for (Index i = 0; i < rbm.n_visible(); ++i) total += static_cast<double>(b[i]) * static_cast<double>(values[i]);
    }
    return total;
}

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

}  // namespace

void free_energy(Rbm& rbm, const Batch& batch, double* out) {
    Buffer<double> sums;
    sums.reserve_zeros(batch.count * sum_lanes);
    const Kernels& k = kernels();
    for_each_tile(rbm, Direction::up, batch, Pass{rbm.n_threads(), true}, [&](const Tile& tile) {
        tile.fill();
        k.add_softplus_f32(tile.x, tile.rows, tile.cols, &sums[tile.row * sum_lanes]);
    });
    const Index room = ceil_div(rbm.n_visible(), block_width) * block_width;
    const double work = static_cast<double>(batch.count) * static_cast<double>(rbm.n_visible());
    parallel_ranges(batch.count, threads_for(work, rbm.n_threads()), [&](Index begin, Index end, int) {
        Buffer<std::int32_t> ones(room);
        Buffer<float> values(room);
        for (Index n = begin; n < end; ++n)
            out[n] = -(visible_term(rbm, batch, n, ones.data(), values.data()) + add_lanes(&sums[n * sum_lanes]));
    });
}

namespace {

// The pixel that each row has flipped, and by how much that changes it: 1 − 2·v_i. Labels are no pixels: given the
// others, one has no choice.
struct Flips {
    Buffer<Index> unit;
    Buffer<float> change;
};

Flips choose_flips(const Rbm& rbm, const Batch& batch, const rng::Draw& draw) {
    const auto n_pixels = static_cast<std::uint64_t>(rbm.labels().begin);
    Flips flips{Buffer<Index>(batch.count), Buffer<float>(batch.count)};
    for (Index n = 0; n < batch.count; ++n) {
        const std::uint64_t word =
            rng::philox4x32({static_cast<std::uint32_t>(n), 0, draw.word2(), draw.word3()}, draw.seed)[0];
        const Index i = static_cast<Index>(word * n_pixels >> 32);
        flips.unit[n] = i;
        flips.change[n] = 1.0f - 2.0f * batch.rows.value(batch.row(n), i);
    }
    return flips;
}

// A tile's pre-activations after the flips of its rows, into x.
void flip_tile(Rbm& rbm, const Tile& tile, const Flips& flips, float* x) {
    const Index j0 = tile.block * block_width;
    if (tile.acc) {
        // The flipped row's sums are this row's plus or minus one row of weights, exactly.
        const QuantizedMatrix& q = rbm.quantized(Direction::up);
        alignas(64) std::int32_t acc[tile_rows * block_width];
        for (Index r = 0; r < tile.rows; ++r) {
            const std::int16_t* row = q.block(tile.block) + flips.unit[tile.row + r] * block_width;
            const std::int32_t sign = flips.change[tile.row + r] < 0 ? -1 : 1;  // binary rows: −1 or 1
            for (Index j = 0; j < block_width; ++j)
                acc[r * block_width + j] = tile.acc[r * block_width + j] + sign * row[j];
        }
        kernels().preactivate_i32(acc, tile.rows, q.scale() + j0, rbm.padded_bias(Direction::up) + j0, x);
        return;
    }
    for (Index r = 0; r < tile.rows; ++r) {
        const float* w = rbm.parameters().w.row(flips.unit[tile.row + r]) + j0;
        std::copy_n(tile.x + r * block_width, block_width, x + r * block_width);
        for (Index j = 0; j < tile.cols; ++j) x[r * block_width + j] += flips.change[tile.row + r] * w[j];
    }
}

}  // namespace

void pseudo_likelihood(Rbm& rbm, const Batch& batch, std::uint64_t seed, std::uint64_t step, Index n_flips,
                       double* out) {
    const Kernels& k = kernels();
    std::vector<Flips> flips;
    for (Index f = 0; f < n_flips; ++f)
        flips.push_back(choose_flips(
            rbm, batch, {seed, step + static_cast<std::uint64_t>(f), static_cast<std::uint32_t>(rng::Stream::flip)}));
    Buffer<double> before, after;
    const Index n_sums = batch.count * sum_lanes;
    before.reserve_zeros(n_sums);
    after.reserve_zeros(n_sums * n_flips);
    for_each_tile(rbm, Direction::up, batch, Pass{rbm.n_threads(), true}, [&](const Tile& tile) {
        tile.fill();
        k.add_softplus_f32(tile.x, tile.rows, tile.cols, &before[tile.row * sum_lanes]);
        alignas(64) float x[tile_rows * block_width];
        for (Index f = 0; f < n_flips; ++f) {
            flip_tile(rbm, tile, flips[static_cast<std::size_t>(f)], x);
            k.add_softplus_f32(x, tile.rows, tile.cols, &after[f * n_sums + tile.row * sum_lanes]);
        }
    });
    const float* b = rbm.parameters().b;
    for (Index n = 0; n < batch.count; ++n) {
        double sum = 0;
        for (Index f = 0; f < n_flips; ++f) {
            const Flips& flip = flips[static_cast<std::size_t>(f)];
            const double visible = static_cast<double>(flip.change[n]) * static_cast<double>(b[flip.unit[n]]);
            // F(v) − F(flipped)
            const double difference =
                visible + add_lanes(&after[f * n_sums + n * sum_lanes]) - add_lanes(&before[n * sum_lanes]);
            sum += softplus(difference);
        }
        out[n] = -static_cast<double>(rbm.labels().begin) * sum / static_cast<double>(n_flips);
    }
}

}  // namespace harmonium
