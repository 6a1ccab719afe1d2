#include "model/trainer.hpp"

#include <algorithm>
#include <cmath>

namespace harmonium {
namespace {

constexpr Index line_units = 32;  // visible units whose weights share the lines of the transposed copy

}  // namespace

Trainer::Trainer(Parameters parameters, TrainingState state, TrainingOptions options, Precision precision,
                 int n_threads, RowTraits traits)
    : rbm_(parameters, precision, n_threads, options.n_labels),
      state_(state),
      options_(options),
      traits_(traits),
      completions_(traits.observed, state.completions, parameters.w.rows),
      quantizes_(precision == Precision::automatic),
      padded_hidden_(ceil_div(parameters.w.cols, block_width) * block_width) {
    cd_.require_finite_biases(rbm_);
    // No weight is −0, which adding a step of zero would make +0: so rows may be skipped whose step is zero.
    for (Index i = 0; i < parameters.w.rows; ++i)
        for (Index j = 0; j < parameters.w.cols; ++j) parameters.w(i, j) += 0.0f;
    b_step_.reserve(rbm_.n_visible());
    if (!quantizes_) return;
    rbm_.quantized(Direction::up);
    rbm_.quantized(Direction::down);
    const Index tiles = ceil_div(rbm_.n_visible(), tile_units);
    tile_max_.reserve_zeros(tiles * padded_hidden_);
    for (Index t = 0; t < tiles; ++t)
        kernels().column_max_f32(
            parameters.w.row_range(t * tile_units, std::min((t + 1) * tile_units, rbm_.n_visible())),
            &tile_max_[t * padded_hidden_]);
}

void Trainer::limit_norms(double most) {
    max_norm_ = most;
    const Kernels& k = kernels();
    const View<float> w = rbm_.parameters().w;
    const Index tiles = ceil_div(w.rows, tile_units);
    tile_square_.reserve_zeros(tiles * padded_hidden_);
    column_factor_.reserve(padded_hidden_);
    for (Index t = 0; t < tiles; ++t)
        k.add_squares_f32(w.row_range(t * tile_units, std::min((t + 1) * tile_units, w.rows)),
                          &tile_square_[t * padded_hidden_]);
}

void Trainer::run(const Batch& data, Index batch_size, std::uint64_t step, double learning_rate, double momentum) {
    const auto n_steps = static_cast<std::uint64_t>(options_.n_gibbs_steps);
    // With steps that adapt the rate is theirs, and the gradient's is 1.
    const double rate = adaptation_.is_on() ? 1 : learning_rate;
    const Index together = updates_a_pass(data.rows, batch_size);
    cd_.clear_pending();  // of a call that an error ended
    for (Index begin = 0; begin < data.count; begin += batch_size, step += n_steps) {
        const Index rows = std::min(batch_size, data.count - begin);
        const Batch given{data.rows, data.begin + begin, rows, data.order};
        if (!completions_.is_empty()) completions_.run(rbm_, given, options_.n_gibbs_steps, options_.seed, step);
        const Batch batch{completions_.is_empty() ? data.rows : completions_.rows(), given.begin, rows, data.order};
        // CD runs one chain per row of the minibatch.
        const View<std::uint64_t> chains = options_.persistent ? state_.chains : state_.chains.row_range(0, rows);
        // A shorter minibatch, the last, has a mean of its own: its update shares no pass.
        const Index with = rows == batch_size ? together : 1;
        if (restarts_) draw_starts(chains, step);
        cd_.run(
            rbm_, fast_ ? fast_->machine() : rbm_, batch, chains,
            {options_.n_gibbs_steps, options_.persistent, options_.seed, step, with, learning_rate, traits_.weights});
        if (path_.count > 0) exchange_with_replicas(chains, step);
        const bool last = begin + 2 * batch_size > data.count;  // that is alike
        update(rule_of(learning_rate, momentum), rate, with == 1 || cd_.pending() == with || last);
        if (fast_ && !fast_->update(cd_)) throw Diverged();
        rows_done_ += rows;
    }
}

Index Trainer::updates_a_pass(const Rows& data, Index batch_size) const {
    // All weights move in every update.
    if (centering_.is_on() || adaptation_.is_on() || max_norm_ > 0 || !state_.w_velocity.empty() || options_.l1 != 0 ||
        options_.l2 != 0)
        return 1;
    if (options_.persistent && state_.chains.rows != batch_size) return 1;
    // Integers of weighted rows have factors of their own; and completions, replicas and fast weights need W as it is.
    if (traits_.weights || !completions_.is_empty() || path_.count > 0 || fast_) return 1;
    return cd_.updates_a_pass(rbm_, data, batch_size, options_.n_gibbs_steps);
}

void Trainer::keep_fast_weights(const Parameters& fast, double rate, double decay) {
    fast_ = std::make_unique<FastWeights>(rbm_.parameters(), fast, rate, decay, rbm_.precision(), rbm_.n_threads(),
                                          rbm_.n_labels());
}

void Trainer::draw_starts(View<std::uint64_t> chains, std::uint64_t step) const {
    const Index n_hidden = rbm_.n_hidden();
    const Buffer<float> halves(n_hidden);
    std::fill_n(halves.data(), n_hidden, 0.5f);
    const rng::Draw draw{options_.seed, step, static_cast<std::uint32_t>(rng::Stream::hidden_start)};
    for (Index n = 0; n < chains.rows; ++n)
        kernels().draw_bits_f32({halves.data(), 1, n_hidden, n_hidden}, draw, static_cast<std::uint32_t>(n), 0,
                                chains.row_range(n, n + 1));
}

void Trainer::exchange_with_replicas(View<std::uint64_t> chains, std::uint64_t step) {
    const Index rows = path_.count * chains.rows, words = ceil_div(rbm_.n_visible(), block_width);
    const View<std::uint64_t> v{all_visible_.reserve_zeros(rows * words), rows, words, words};
    const View<std::uint64_t> h{all_hidden_.reserve(rows * chains.cols), rows, chains.cols, chains.cols};
    const auto copy = [](View<const std::uint64_t> from, View<std::uint64_t> to) {
        for (Index n = 0; n < from.rows; ++n) std::copy_n(from.row(n), from.cols, to.row(n));
    };
    copy(cd_.visible_states(), v);
    copy(chains, h);
    copy(replicas_, h.row_range(chains.rows, rows));
    harmonium::temper(rbm_, path_, options_.n_gibbs_steps, 1, {options_.seed, step, 0}, v, h, {}, exchanges_);
    copy(h.row_range(0, chains.rows), chains);
    copy(h.row_range(chains.rows, rows), replicas_);
}

void Trainer::copy_visible_states(View<std::uint64_t> out) const {
    const View<const std::uint64_t> states = cd_.visible_states();
    for (Index r = 0; r < out.rows; ++r) std::copy_n(states.row(r), out.cols, out.row(r));
}

void Trainer::require_chains(Index batch_rows) const {
    if (!options_.persistent && state_.chains.rows < batch_rows)
        throw std::invalid_argument("CD runs one chain a row of the minibatch: there are too few chains");
}

void Trainer::require_traits(const Rows& data) const {
    if (traits_.rows >= 0 && traits_.rows != data.rows())
        throw std::invalid_argument("weights and completions must be of as many rows as the data");
    if (!completions_.is_empty() && !data.is_packed())
        throw std::invalid_argument("rows with missing values must be bits");
}

UpdateRule Trainer::rule_of(double learning_rate, double momentum) const {
    UpdateRule rule;
    rule.is_centered = centering_.is_on();
    if (adaptation_.is_on()) {
        rule.l1 = static_cast<float>(options_.l1);
        rule.l2 = static_cast<float>(options_.l2);
        adapt_rule(learning_rate, rule);
        return rule;
    }
    rule.momentum = static_cast<float>(momentum);
    rule.l1 = static_cast<float>(learning_rate * options_.l1);
    rule.l2 = static_cast<float>(learning_rate * options_.l2);
    rule.use_momentum = !state_.w_velocity.empty();
    return rule;
}

void Trainer::adapt_rule(double learning_rate, UpdateRule& rule) const {
    const Adaptation& a = adaptation_;
    rule.adapts = true;
    rule.beta1 = static_cast<float>(a.beta_1);
    rule.beta2 = static_cast<float>(a.beta_2);
    rule.rest1 = static_cast<float>(1 - a.beta_1);
    rule.rest2 = static_cast<float>(1 - a.beta_2);
    double rate = learning_rate, epsilon = a.epsilon;
    if (!state_.w_velocity.empty()) {  // Adam, whose averages began at zero
        const auto t = static_cast<double>(*a.updates + 1);
        const double root = std::sqrt(1 - std::pow(a.beta_2, t));
        rate *= root / (1 - std::pow(a.beta_1, t));
        epsilon *= root;
    }
    rule.rate = static_cast<float>(rate);
    rule.epsilon = static_cast<float>(epsilon);
}

void Trainer::update(const UpdateRule& rule, double rate, bool moves_weights) {
    diverged_ = false;
    const Shares& shares = cd_.shares();
    const Index blocks = padded_hidden_ / block_width;
    if (moves_weights) {
        cd_.begin_weight_steps(rate, rbm_.n_threads());
        if (centering_.is_on()) begin_centering(rate);
        share_max_.reserve(shares.count() * padded_hidden_);
        shares.for_each([&](int share) { update_weights(rule, share); });
        if (diverged_) throw Diverged();
        if (max_norm_ > 0) limit_columns();
    }
    shares.for_each([&](int share) {
        update_visible_biases(rule, rate, share);
        const Range mine = shares.dealt(share, blocks);
        for (Index block = mine.begin; block < mine.end; ++block) {
            if (moves_weights && quantizes_) follow_column_scales(block);
            update_hidden_biases(rule, rate, block);
        }
    });
    if (diverged_) throw Diverged();
    if (moves_weights) cd_.clear_pending();
    if (adaptation_.is_on()) ++*adaptation_.updates;
    if (counts_) ++counts_[updates_made];
    if (moves_weights && !averages_.w.empty()) average_parameters();
}

void Trainer::begin_centering(double rate) {
    centering_.begin(cd_, rbm_.n_visible(), rbm_.n_hidden());
    cd_.shares().for_each([&](int share) { centering_.take_share(cd_, rate, share); });
    centering_.put_together(cd_, rate);
}

void Trainer::limit_columns() {
    const Shares& shares = cd_.shares();
    std::atomic<bool> too_long{false};
    shares.for_each([&](int share) {
        const Range mine = shares.dealt(share, padded_hidden_ / block_width);
        for (Index block = mine.begin; block < mine.end; ++block)
            if (find_factors(block)) too_long = true;
    });
    if (diverged_) throw Diverged();
    if (too_long) shares.for_each([&](int share) { update_weights({}, share, column_factor_.data()); });
}

bool Trainer::find_factors(Index block) {
    double sums[block_width] = {};
    const Index j0 = block * block_width;
    for (Index t = 0; t < ceil_div(rbm_.n_visible(), tile_units); ++t)
        for (Index j = 0; j < block_width; ++j)
            sums[j] += static_cast<double>(tile_square_[t * padded_hidden_ + j0 + j]);
    const double most = max_norm_ * max_norm_;
    bool too_long = false;
    for (Index j = 0; j < block_width; ++j) {
        if (!std::isfinite(sums[j])) diverged_ = true;
        const bool is_too_long = sums[j] > most;
        column_factor_[j0 + j] = is_too_long ? static_cast<float>(std::sqrt(most / sums[j])) : 1.0f;
        too_long |= is_too_long;
    }
    return too_long;
}

void Trainer::update_weights(const UpdateRule& rule, int share, const float* factor) {
    const Range units = cd_.shares().units(share);
    if (!factor) cd_.list_pending(share);
    for (Index line = units.begin; line < units.end; line += line_units)
        update_line(rule, share, {line, std::min(line + line_units, units.end)}, factor);
    if (!quantizes_) return;
    std::uint32_t* most = &share_max_[share * padded_hidden_];
    std::fill_n(most, padded_hidden_, 0u);
    const Index first_tile = units.begin / tile_units, n_tiles = ceil_div(units.end, tile_units) - first_tile;
    kernels().column_max_u32({&tile_max_[first_tile * padded_hidden_], n_tiles, padded_hidden_, padded_hidden_}, most);
}

void Trainer::update_line(const UpdateRule& rule, int share, Range units, const float* factor) {
    const Kernels& k = kernels();
    const Parameters& p = rbm_.parameters();
    QuantizedMatrix* up = quantizes_ ? &rbm_.quantized(Direction::up) : nullptr;
    QuantizedMatrix* down = quantizes_ ? &rbm_.quantized(Direction::down) : nullptr;
    const auto last_of = [&](Index first) { return std::min(first + tile_units, units.end); };
    // A bit for each unit that moves, by eights; and one for each eight of which some do.
    std::uint32_t moving[line_units / tile_units] = {}, eights = 0;
    for (Index first = units.begin, e = 0; first < units.end; first += tile_units, ++e) {
        const bool all = factor || rule.moves_all();
        moving[e] = all ? first_bits(last_of(first) - first) : cd_.moving(share, first, last_of(first));
        if (moving[e]) eights |= 1u << e;
    }
    constexpr Index stride = step_blocks * block_width;
    alignas(64) float step[tile_units * stride];
    if (factor) std::fill_n(step, tile_units * stride, 0.0f);
    alignas(64) std::int16_t rounded[line_units * stride];
    if ((units.end - units.begin) % tile_units != 0) std::fill_n(rounded, line_units * stride, std::int16_t{0});
    std::uint32_t row_max[line_units] = {};
    const Index blocks = padded_hidden_ / block_width;
    for (Index block = 0; block < blocks; block += step_blocks) {
        const Range some{block, std::min(block + step_blocks, blocks)};
        const Index j0 = block * block_width;
        UpdateTile tile{};
        tile.w_stride = p.w.stride;
        tile.velocity_stride = state_.w_velocity.stride;
        tile.square_stride = adaptation_.w_square.stride;
        tile.gradient = step;
        tile.cols = std::min(some.end * block_width, rbm_.n_hidden()) - j0;
        for (std::uint32_t left = eights; left; left &= left - 1) {
            const int e = __builtin_ctz(left);
            const Index row = e * tile_units, first = units.begin + row, last = last_of(first);
            const View<float> weights{p.w.row(first) + j0, last - first, tile.cols, p.w.stride};
            if (factor)
                k.scale_columns_f32(factor + j0, weights);
            else
                cd_.weight_step(share, first, last, moving[e], some, step);
            tile.w = weights.data;
            if (!state_.w_velocity.empty()) tile.velocity = state_.w_velocity.row(first) + j0;
            if (rule.adapts) tile.square = adaptation_.w_square.row(first) + j0;
            tile.rows = last - first;
            tile.moving = moving[e];
            tile.row_max = row_max + row;
            if (rule.is_centered) {
                tile.row_offset = centering_.visible_offset() + first;
                tile.row_step = centering_.visible_step() + first;
                tile.col_offset = centering_.hidden_offset() + j0;
                tile.col_step = centering_.hidden_step() + j0;
            }
            if (quantizes_) {
                // With the scales of before; where a maximum has moved past one, that row or column is done again.
                tile.up = up->block(block) + first * block_width;
                tile.up_stride = up->inputs() * block_width;
                tile.up_inverse_scale = up->inverse_scale() + j0;
                tile.down = rounded + row * stride;
                tile.down_stride = stride;
                tile.down_inverse_scale = down->inverse_scale() + first;
                tile.col_max = &tile_max_[first / tile_units * padded_hidden_ + j0];
            }
            k.update_tiles(tile, rule);
            if (max_norm_ > 0) {
                float* squares = &tile_square_[first / tile_units * padded_hidden_ + j0];
                std::fill_n(squares, tile.cols, 0.0f);
                k.add_squares_f32(weights, squares);
            }
        }
        if (quantizes_)
            k.transpose_eights(rounded, stride, eights, tile.cols,
                               down->block(units.begin / block_width) + j0 * block_width + units.begin % block_width);
    }
    for (std::uint32_t left = eights; left; left &= left - 1) {
        const Index row = __builtin_ctz(left) * tile_units, first = units.begin + row;
        follow_row_scales({first, last_of(first)}, row_max + row);
    }
}

void Trainer::follow_row_scales(Range units, const std::uint32_t* most) {
    bool changed = false;
    for (Index i = units.begin; i < units.end; ++i) {
        if (most[i - units.begin] >= infinity_bits)
            diverged_ = true;
        else if (quantizes_)
            changed |= rbm_.quantized(Direction::down).set_scale(i, most[i - units.begin]);
    }
    if (changed) rbm_.quantized(Direction::down).requantize_transposed(rbm_.parameters().w, units.begin);
}

void Trainer::follow_column_scales(Index block) {
    QuantizedMatrix& up = rbm_.quantized(Direction::up);
    const Index j0 = block * block_width;
    std::uint32_t most[block_width] = {};
    kernels().column_max_u32({&share_max_[j0], cd_.shares().count(), block_width, padded_hidden_}, most);
    for (Index j = 0; j < up.block_cols(block); ++j)
        if (up.set_scale(j0 + j, most[j])) up.requantize_output(rbm_.parameters().w, j0 + j);
}

void Trainer::update_visible_biases(const UpdateRule& rule, double rate, int share) {
    const Range units = cd_.shares().units(share);
    float* step = b_step_.data() + units.begin;
    if (centering_.is_on())
        centering_.visible_bias_step(cd_, share, step);
    else
        cd_.visible_bias_step(rate, share, step);
    update_biases(rule, Direction::down, units, step);
}

void Trainer::update_hidden_biases(const UpdateRule& rule, double rate, Index block) {
    float step[block_width];
    if (centering_.is_on())
        centering_.hidden_bias_step(cd_, block, step);
    else
        cd_.hidden_bias_step(rate, block, step);
    if (sparsity_.activity) add_sparsity(rate, block, step);
    const Index j0 = block * block_width;
    update_biases(rule, Direction::up, {j0, std::min(j0 + block_width, rbm_.n_hidden())}, step);
}

void Trainer::add_sparsity(double rate, Index block, float* step) const {
    const Sparsity& s = sparsity_;
    double means[block_width];
    cd_.hidden_means(block, means);
    const Index j0 = block * block_width;
    for (Index j = 0; j < std::min(block_width, rbm_.n_hidden() - j0); ++j) {
        float& q = s.activity[j0 + j];
        q = static_cast<float>(s.decay * static_cast<double>(q) + (1 - s.decay) * means[j]);
        step[j] += static_cast<float>(rate * s.cost * (s.target - static_cast<double>(q)));
    }
}

void Trainer::average_parameters() {
    const double decay = averages_.decay;
    // Not after every update: with 784 × 500 weights and ten rows it takes as long as one.
    const auto between = static_cast<std::int64_t>(std::clamp(std::nearbyint(0.25 / (1 - decay)), 1.0, 100.0));
    const std::int64_t since = counts_[updates_made] - counts_[averaged_at], taken = counts_[averages_taken];
    if (taken > 0 && since < between) return;
    // At first the plain mean: a moving average would remember for long where training began.
    const auto mean = 1 / static_cast<double>(taken + 1), moving = 1 - std::pow(decay, static_cast<double>(since));
    const auto rate = static_cast<float>(std::max(mean, moving));
    const Kernels& k = kernels();
    const Parameters& p = rbm_.parameters();
    const Shares& shares = cd_.shares();
    shares.for_each([&](int share) {
        const Range units = shares.units(share);
        for (Index i = units.begin; i < units.end; ++i) k.average_f32(p.w.row(i), p.w.cols, rate, averages_.w.row(i));
    });
    k.average_f32(p.b, p.w.rows, rate, averages_.b);
    k.average_f32(p.c, p.w.cols, rate, averages_.c);
    ++counts_[averages_taken];
    counts_[averaged_at] = counts_[updates_made];
}

void Trainer::update_biases(const UpdateRule& rule, Direction direction, Range units, float* step) {
    const Kernels& k = kernels();
    const bool up = direction == Direction::up;
    float* bias = (up ? rbm_.parameters().c : rbm_.parameters().b) + units.begin;
    float* velocity = up ? state_.c_velocity : state_.b_velocity;
    float* square = up ? adaptation_.c_square : adaptation_.b_square;
    const Index n = units.end - units.begin;
    const auto from_first = [&](float* all) { return all ? all + units.begin : nullptr; };
    k.update_vector(bias, from_first(velocity), from_first(square), step, n, rule);
    if (k.max_abs_f32(bias, n) >= infinity_bits) diverged_ = true;
    rbm_.refresh_bias(direction, units.begin, units.end);
}

}  // namespace harmonium
