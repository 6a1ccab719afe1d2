// Free energies and the pseudo-likelihood (docs/numerics.md, section 5).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
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

namespace {

// With σ = σ(x), a unit that goes on adds log Π ((1 − σ_j) + σ_j·e^W_j) to Σ softplus(x_j), one that goes off the
// logarithm of the same with −W, which is that of Π (σ_j + (1 − σ_j)·e^W_j) less Σ W_j. No factor is smaller or larger
// than e^∓|W_j|, none is a difference, and what σ loses below e^−87 is nothing while |W| is not this large:
constexpr float largest_ratio = 40;  // in nats
constexpr float largest_product = 80;

// All units' weights as the exact pseudo-likelihood wants them: e^W in rows of whole blocks, and Σ W.
class FlipRatios {
  public:
    FlipRatios(Rbm& rbm, bool is_integer)
        : rbm_(rbm), quantized_(is_integer ? &rbm.quantized(Direction::up) : nullptr) {
        const Index n_pixels = rbm.labels().begin;
        width_ = ceil_div(rbm.n_hidden(), block_width) * block_width;
        odds_.reserve(n_pixels * width_);
        sums_.reserve(n_pixels);
        const Kernels& k = kernels();
        std::uint32_t largest_bits = 0;
        for (Index i = 0; i < n_pixels; ++i) {
            float* row = &odds_[i * width_];
            copy_weights(i, row);
            largest_bits = std::max(largest_bits, k.max_abs_f32(row, width_));
            double sum = 0;
            for (Index j = 0; j < rbm.n_hidden(); ++j) sum += static_cast<double>(row[j]);
            sums_[i] = sum;
            k.exp_f32(row, width_, row);
        }
        float largest;
        std::memcpy(&largest, &largest_bits, sizeof largest);
        fits_ = largest <= largest_ratio;  // and is a number
        run_ = width_;
        if (fits_ && largest * static_cast<float>(width_ / block_width) > largest_product)
            run_ = static_cast<Index>(largest_product / largest) * block_width;
    }

    Index width() const { return width_; }
    bool fits() const { return fits_; }

    // Weights of unit i: those that the sums are made of, so on the integer path those of 16 bits; zeros past them.
    void copy_weights(Index i, float* out) const {
        const Index n_hidden = rbm_.n_hidden();
        if (quantized_) {
            for (Index block = 0; block < quantized_->blocks(); ++block) {
                const std::int16_t* row = quantized_->block(block) + i * block_width;
                const float* scale = quantized_->scale() + block * block_width;
                for (Index j = 0; j < block_width; ++j)
                    out[block * block_width + j] = static_cast<float>(row[j]) * scale[j];
            }
        } else {
            std::copy_n(rbm_.parameters().w.row(i), n_hidden, out);
            std::fill(out + n_hidden, out + width_, 0.0f);
        }
    }

    // What flipping unit i adds to Σ softplus(x) where σ(x) is p, and σ(−x) is q.
    double added(Index i, bool goes_on, const float* p, const float* q) const {
        if (!goes_on) std::swap(p, q);
        std::int64_t exponent = 0;
        const float m = kernels().multiply_ratios_f32(p, q, &odds_[i * width_], width_, run_, &exponent);
        const double sum = std::log(static_cast<double>(m)) + static_cast<double>(exponent) * 0.6931471805599453094;
        return goes_on ? sum : sum - sums_[i];
    }

  private:
    Rbm& rbm_;
    QuantizedMatrix* quantized_;
    Index width_ = 0, run_ = 0;
    bool fits_ = false;
    Buffer<float> odds_;
    Buffer<double> sums_;
};

double sum_softplus(const float* x, Index width, Index n) {
    double sums[sum_lanes] = {};
    for (Index j = 0; j < width; j += block_width)
        kernels().add_softplus_f32(x + j, 1, std::min(block_width, n - j), sums);
    return add_lanes(sums);
}

// Some rows, of which a thread takes each unit's weights for so many while they are in the first-level cache.
constexpr Index flip_rows = 4;

struct FlipBuffers {
    Buffer<float> p, q, values, difference, weights, flipped;

    FlipBuffers(Index n_visible, Index width)
        : p(flip_rows * width),
          q(flip_rows * width),
          values(flip_rows * n_visible),
          difference(flip_rows * (n_visible + block_width)),
          weights(width),
          flipped(width) {}
};

// Rows n … n + rows − 1 of a batch, with these pre-activations.
void flip_all(const Rbm& rbm, const FlipRatios& ratios, const Batch& batch, Index n, Index rows, const float* x,
              const FlipBuffers& buffers, double* out) {
    const Kernels& k = kernels();
    const Index width = ratios.width(), n_visible = rbm.n_visible(), n_pixels = rbm.labels().begin;
    const Index room = n_visible + block_width;  // whole blocks are read
    double before[flip_rows];
    for (Index r = 0; r < rows; ++r) {
        float *p = &buffers.p[r * width], *q = &buffers.q[r * width];
        batch.rows.copy_values(batch.row(n + r), &buffers.values[r * n_visible]);
        before[r] = sum_softplus(x + r * width, width, rbm.n_hidden());
        for (Index j = 0; j < width; ++j) q[j] = -x[r * width + j];
        k.sigmoid_f32(x + r * width, width, p);
        k.sigmoid_f32(q, width, q);
        std::fill_n(&buffers.difference[r * room], room, 0.0f);
    }
    for (Index i = 0; i < n_pixels; ++i) {
        bool has_weights = false;
        for (Index r = 0; r < rows; ++r) {
            const float change = 1.0f - 2.0f * buffers.values[r * n_visible + i];
            double added;
            if (ratios.fits() && std::fabs(change) == 1.0f) {
                added = ratios.added(i, change > 0, &buffers.p[r * width], &buffers.q[r * width]);
            } else {
                if (!has_weights) ratios.copy_weights(i, buffers.weights.data());
                has_weights = true;
                float* flipped = buffers.flipped.data();
                for (Index j = 0; j < width; ++j) flipped[j] = x[r * width + j] + change * buffers.weights[j];
                added = sum_softplus(flipped, width, rbm.n_hidden()) - before[r];
            }
            const double visible = static_cast<double>(change) * static_cast<double>(rbm.parameters().b[i]);
            buffers.difference[r * room + i] = static_cast<float>(visible + added);  // F(v) − F(flipped)
        }
    }
    for (Index r = 0; r < rows; ++r) {
        // Exponents are those of numbers: a row whose sums are none is told by them.
        const bool is_number = !std::isnan(before[r]);
        out[n + r] = is_number ? -sum_softplus(&buffers.difference[r * room], n_pixels, n_pixels)
                               : std::numeric_limits<double>::quiet_NaN();
    }
}

}  // namespace

void exact_pseudo_likelihood(Rbm& rbm, const Batch& batch, double* out) {
    const FlipRatios ratios(rbm, rbm.takes_integer_path(batch.rows));
    const Index width = ratios.width();
    Buffer<float> x(std::min(batch.count, strip_rows) * width);
    for (Index first = 0; first < batch.count; first += strip_rows) {
        const Batch strip{batch.rows, batch.begin + first, std::min(strip_rows, batch.count - first), batch.order};
        for_each_tile(rbm, Direction::up, strip, Pass{rbm.n_threads()}, [&](const Tile& tile) {
            tile.fill();
            for (Index r = 0; r < tile.rows; ++r)
                std::copy_n(tile.x + r * block_width, block_width,
                            &x[(tile.row + r) * width + tile.block * block_width]);
        });
        const double work = static_cast<double>(strip.count * rbm.n_visible()) * static_cast<double>(width) / 32;
        parallel_ranges(strip.count, threads_for(work, rbm.n_threads()), [&](Index begin, Index end, int) {
            const FlipBuffers buffers(rbm.n_visible(), width);
            for (Index n = begin; n < end; n += flip_rows)
                flip_all(rbm, ratios, strip, n, std::min(flip_rows, end - n), &x[n * width], buffers, out + first);
        });
    }
}

}  // namespace harmonium
