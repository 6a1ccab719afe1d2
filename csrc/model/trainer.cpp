#include "model/trainer.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace harmonium {
Trainer::Trainer(Parameters parameters, TrainingState state, TrainingOptions options, Precision precision,
                 int n_threads)
    : rbm_(parameters, precision, n_threads),
      state_(state),
      options_(options),
      quantizes_(precision == Precision::automatic),
      padded_hidden_(ceil_div(parameters.w.cols, block_width) * block_width) {
    cd_.require_finite_biases(rbm_);
    // No weight is −0, which adding a step of zero would make +0: so rows may be skipped whose step is zero.
    for (Index i = 0; i < parameters.w.rows; ++i)
        for (Index j = 0; j < parameters.w.cols; ++j) parameters.w(i, j) += 0.0f;
    b_step_.reserve(rbm_.n_visible());
    c_step_.reserve(rbm_.n_hidden());
    if (!quantizes_) return;
    rbm_.quantized(Direction::up);
    rbm_.quantized(Direction::down);
    const Index tiles = ceil_div(rbm_.n_visible(), tile_units);
    tile_max_.reserve_zeros(tiles * padded_hidden_);
    column_max_.reserve_zeros(padded_hidden_);
    for (Index t = 0; t < tiles; ++t)
        kernels().column_max_f32(
            parameters.w.row_range(t * tile_units, std::min((t + 1) * tile_units, rbm_.n_visible())),
            &tile_max_[t * padded_hidden_]);
}

void Trainer::run(const Batch& data, Index batch_size, std::uint64_t step, double learning_rate, double momentum) {
    const auto n_steps = static_cast<std::uint64_t>(options_.n_gibbs_steps);
    for (Index begin = 0; begin < data.count; begin += batch_size, step += n_steps) {
        const Index rows = std::min(batch_size, data.count - begin);
        const Batch batch{data.rows, data.begin + begin, rows, data.order};
        // CD runs one chain per row of the minibatch.
        const View<std::uint64_t> chains = options_.persistent ? state_.chains : state_.chains.row_range(0, rows);
        cd_.run(rbm_, batch, chains, {options_.n_gibbs_steps, options_.persistent, options_.seed, step});
        apply(learning_rate, momentum);
        rows_done_ += rows;
    }
}

void Trainer::require_chains(Index batch_rows) const {
    if (!options_.persistent && state_.chains.rows < batch_rows)
        throw std::invalid_argument("CD runs one chain a row of the minibatch: there are too few chains");
}

void Trainer::apply(double learning_rate, double momentum) {
    UpdateRule rule;
    rule.momentum = static_cast<float>(momentum);
    rule.l1 = static_cast<float>(learning_rate * options_.l1);
    rule.l2 = static_cast<float>(learning_rate * options_.l2);
    rule.use_momentum = !state_.w_velocity.empty();
    cd_.begin_weight_steps(learning_rate, rbm_.n_threads());
    update_weights(rule);
    update_biases(rule, learning_rate);
}

void Trainer::update_weights(const UpdateRule& rule) {
    const Kernels& k = kernels();
    const Parameters& p = rbm_.parameters();
    const Index n_visible = rbm_.n_visible(), blocks = ceil_div(rbm_.n_hidden(), block_width);
    const bool may_skip = !rule.use_momentum && rule.l1 == 0 && rule.l2 == 0;
    QuantizedMatrix* up = quantizes_ ? &rbm_.quantized(Direction::up) : nullptr;
    QuantizedMatrix* down = quantizes_ ? &rbm_.quantized(Direction::down) : nullptr;
    std::atomic<bool> diverged{false};

    const double work = static_cast<double>(n_visible) * static_cast<double>(rbm_.n_hidden());
    parallel_ranges(
        ceil_div(n_visible, tile_units), threads_for(work, rbm_.n_threads()), [&](Index begin, Index end, int) {
            alignas(64) float step[tile_units * block_width];
            for (Index t = begin; t < end; ++t) {
                const Index first = t * tile_units, last = std::min(first + tile_units, n_visible);
                if (may_skip && cd_.is_silent(first, last)) continue;
                std::uint32_t row_max[tile_units] = {};
                for (Index block = 0; block < blocks; ++block) {
                    const Index j0 = block * block_width;
                    cd_.weight_step(first, last, block, step);
                    UpdateTile tile{};
                    tile.w = p.w.row(first) + j0;
                    tile.w_stride = p.w.stride;
                    if (rule.use_momentum) tile.velocity = state_.w_velocity.row(first) + j0;
                    tile.velocity_stride = state_.w_velocity.stride;
                    tile.gradient = step;
                    tile.rows = last - first;
                    tile.cols = std::min(block_width, rbm_.n_hidden() - j0);
                    tile.row_max = row_max;
                    if (quantizes_) {
                        tile.col_max = &tile_max_[t * padded_hidden_ + j0];
                        // With the scales of before; where a maximum has moved past one, that row or column is done
                        // again.
                        tile.up = up->block(block) + first * block_width;
                        tile.up_inverse_scale = up->inverse_scale() + j0;
                        tile.down = down->block(first / block_width) + first % block_width + j0 * block_width;
                        tile.down_inverse_scale = down->inverse_scale() + first;
                    }
                    k.update_tile(tile, rule);
                }
                bool changed = false;
                for (Index r = 0; r < last - first; ++r) {
                    float most;
                    std::memcpy(&most, &row_max[r], sizeof most);
                    if (!std::isfinite(most))
                        diverged = true;
                    else if (quantizes_)
                        changed |= down->set_scale(first + r, row_max[r]);
                }
                if (changed) down->requantize_transposed(p.w, first);
            }
        });
    if (diverged) throw Diverged();
    if (quantizes_) follow_column_scales();
}

void Trainer::follow_column_scales() {
    const Index tiles = ceil_div(rbm_.n_visible(), tile_units), n_hidden = rbm_.n_hidden();
    QuantizedMatrix& up = rbm_.quantized(Direction::up);
    std::fill_n(column_max_.data(), padded_hidden_, 0u);
    kernels().column_max_u32({tile_max_.data(), tiles, n_hidden, padded_hidden_}, column_max_.data());
    for (Index j = 0; j < n_hidden; ++j)
        if (up.set_scale(j, column_max_[j])) up.requantize_output(rbm_.parameters().w, j);
}

void Trainer::update_biases(const UpdateRule& rule, double learning_rate) {
    cd_.bias_steps(learning_rate, b_step_.data(), c_step_.data());
    const Kernels& k = kernels();
    const Parameters& p = rbm_.parameters();
    k.update_vector(p.b, state_.b_velocity, b_step_.data(), rbm_.n_visible(), rule);
    k.update_vector(p.c, state_.c_velocity, c_step_.data(), rbm_.n_hidden(), rule);
    for (const auto& [values, n] : {std::pair{p.b, rbm_.n_visible()}, std::pair{p.c, rbm_.n_hidden()}}) {
        const std::uint32_t most = k.max_abs_f32(values, n);
        float bias;
        std::memcpy(&bias, &most, sizeof bias);
        if (!std::isfinite(bias)) throw Diverged();
    }
    rbm_.refresh_biases();
}

}  // namespace harmonium
