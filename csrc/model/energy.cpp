// Free energies and the pseudo-likelihood (docs/numerics.md, section 5).
#include <algorithm>
#include <cmath>

#include "model/products.hpp"
#include "model/rbm.hpp"

namespace harmonium {
namespace {

constexpr Index sum_lanes = 16;

double add_lanes(const double* sums) {
    double total = 0;
    for (Index lane = 0; lane < sum_lanes; ++lane) total += sums[lane];
    return total;
}

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
    for_each_tile(rbm, Direction::up, batch, true, [&](const Tile& tile) {
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

void pseudo_likelihood(Rbm& rbm, const Batch& batch, std::uint64_t seed, std::uint64_t step, std::uint32_t row0,
                       double* out) {
    const Kernels& k = kernels();
    const Rows& rows = batch.rows;
    const Index n_visible = rbm.n_visible();
    const bool integer_path = rbm.takes_integer_path(rows);
    const rng::Draw draw{seed, step, static_cast<std::uint32_t>(rng::Stream::flip)};

    Buffer<Index> flipped(batch.count);
    Buffer<float> change(batch.count);  // of the flipped unit: 1 − 2·v_i
    {
        Buffer<float> values(n_visible);
        for (Index n = 0; n < batch.count; ++n) {
            const std::uint64_t word =
                rng::philox4x32({row0 + static_cast<std::uint32_t>(n), 0, draw.word2(), draw.word3()}, seed)[0];
            flipped[n] = static_cast<Index>(word * static_cast<std::uint64_t>(n_visible) >> 32);
            if (rows.is_binary()) {
                change[n] = rows.is_one(batch.row(n), flipped[n]) ? -1.0f : 1.0f;
            } else {
                rows.copy_values(batch.row(n), values.data());
                change[n] = 1.0f - 2.0f * values[flipped[n]];
            }
        }
    }

    Buffer<double> before, after;
    before.reserve_zeros(batch.count * sum_lanes);
    after.reserve_zeros(batch.count * sum_lanes);
    const float* bias = rbm.padded_bias(Direction::up);
    const View<float> w = rbm.parameters().w;
    for_each_tile(rbm, Direction::up, batch, true, [&](const Tile& tile) {
        k.add_softplus_f32(tile.x, tile.rows, tile.cols, &before[tile.row * sum_lanes]);
        const Index j0 = tile.block * block_width;
        if (integer_path) {
            // The flipped row's sums are this row's plus or minus one row of weights, exactly.
            const QuantizedMatrix& q = rbm.quantized(Direction::up);
            alignas(64) std::int32_t acc[tile_rows * block_width];
            for (Index r = 0; r < tile.rows; ++r) {
                const std::int16_t* row = q.block(tile.block) + flipped[tile.row + r] * block_width;
                const std::int32_t sign = change[tile.row + r] < 0 ? -1 : 1;
                for (Index j = 0; j < block_width; ++j)
                    acc[r * block_width + j] = tile.acc[r * block_width + j] + sign * row[j];
            }
            k.preactivate_i32(acc, tile.rows, q.scale() + j0, bias + j0, tile.x);
        } else {
            for (Index r = 0; r < tile.rows; ++r)
                for (Index j = 0; j < tile.cols; ++j)
                    tile.x[r * block_width + j] += change[tile.row + r] * w(flipped[tile.row + r], j0 + j);
        }
        k.add_softplus_f32(tile.x, tile.rows, tile.cols, &after[tile.row * sum_lanes]);
    });
    for (Index n = 0; n < batch.count; ++n) {
        const double visible = static_cast<double>(change[n]) * static_cast<double>(rbm.parameters().b[flipped[n]]);
        // F(v) − F(flipped)
        const double difference = visible + add_lanes(&after[n * sum_lanes]) - add_lanes(&before[n * sum_lanes]);
        out[n] = -static_cast<double>(n_visible) * softplus(difference);
    }
}

}  // namespace harmonium
