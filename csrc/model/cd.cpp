#include "model/cd.hpp"

#include <algorithm>
#include <numeric>

namespace harmonium {

void ContrastiveDivergence::require_finite_biases(const Rbm& rbm) {
    const Kernels& k = kernels();
    const std::uint32_t most =
        std::max(k.max_abs_f32(rbm.parameters().b, rbm.n_visible()), k.max_abs_f32(rbm.parameters().c, rbm.n_hidden()));
    if (most >= infinity_bits) throw NonFiniteParameters("the biases");
}

namespace {

// Up to so many rows the hidden units' sums are taken in parts, share by share; with more of them the parts are more to
// exchange than the weights.
constexpr Index few_rows = 256;

HalfStep drawing(View<std::uint64_t> to, const CdOptions& options, rng::Stream stream, std::uint64_t step) {
    HalfStep out;
    out.states = to;
    out.draw = {options.seed, step, static_cast<std::uint32_t>(stream)};
    return out;
}

}  // namespace

void ContrastiveDivergence::run(Rbm& rbm, Rbm& sampler, const Batch& data, View<std::uint64_t> chains,
                                const CdOptions& options) {
    n_visible_ = rbm.n_visible();
    n_hidden_ = rbm.n_hidden();
    const double weights = static_cast<double>(n_visible_) * static_cast<double>(n_hidden_);
    const Index most_shares = std::max<Index>(1, ceil_div(n_visible_, block_width));
    shares_ = {n_visible_, static_cast<int>(std::min<Index>(threads_for(weights, rbm.n_threads()), most_shares))};
    const bool data_is_integer = rbm.takes_integer_path(data.rows);
    const bool chain_is_integer = rbm.precision() == Precision::automatic;
    // The labels, which are drawn together, are all of one share.
    const bool whole_labels = rbm.labels().begin >= shares_.units(shares_.count() - 1).begin;
    const bool by_shares = chain_is_integer && whole_labels && std::max(data.count, chains.rows) <= few_rows;
    positive_.begin(shares_, rbm, data.count, data_is_integer, by_shares);
    negative_.begin(shares_, sampler, chains.rows, chain_is_integer, by_shares);
    if (options.weights) positive_.weigh(data, options.weights);
    pends_ = options.updates_a_pass > 1;
    const Index first_negative = data_is_integer ? data.count : 0, words = ceil_div(n_visible_, block_width);
    std::int16_t* fixed;
    if (pends_) {
        if (pending_.count() == 0) pending_.begin(shares_, n_visible_, n_hidden_, data.count, options.updates_a_pass);
        fixed_rows_ = pending_.integers_rows();
        steps_from_ = pending_.integers();
        fixed = pending_.integers() + pending_.rows() * block_width;
        states_ = pending_.visible(PendingUpdates::chains);
    } else {
        fixed_rows_ = chain_is_integer ? first_negative + chains.rows : 0;
        steps_from_ = fixed = fixed_.reserve(ceil_div(n_hidden_, block_width) * fixed_rows_ * block_width);
        states_ = {visible_states_.reserve(chains.rows * words), chains.rows, words, words};
    }
    positive_.keep_integers(fixed, fixed_rows_, false);
    negative_.keep_integers(fixed + first_negative * block_width, fixed_rows_, true);
    lists_.resize(static_cast<std::size_t>(shares_.count()));
    value_lists_.resize(static_cast<std::size_t>(shares_.count()));
    if (by_shares)
        run_by_shares(rbm, sampler, data, chains, options);
    else
        run_by_rows(rbm, sampler, data, chains, options);
    if (pends_) pending_.close(positive_.factor(options.learning_rate));
}

Index ContrastiveDivergence::updates_a_pass(const Rbm& rbm, const Rows& data, Index rows, Index n_gibbs_steps) {
    const bool can_pend = n_gibbs_steps == 1 && rbm.n_labels() == 0 && rbm.takes_integer_path(data);
    return can_pend ? PendingUpdates::most(rbm.n_visible(), rbm.n_hidden(), rows) : 1;
}

void ContrastiveDivergence::list_pending(int share) {
    if (!pends_) return;
    const Range units = shares_.units(share);
    lists_[static_cast<std::size_t>(share)].fill(units.end - units.begin, pending_.listed(share), {});
}

void ContrastiveDivergence::turn_lists(int share) {
    const auto s = static_cast<std::size_t>(share);
    const Range range = shares_.units(share);
    const Index units = range.end - range.begin;
    const auto listed = [&](const Phase& phase, bool is_it) { return is_it ? phase.listed(share) : RowLists{}; };
    lists_[s].fill(units, listed(positive_, positive_.is_integer()), listed(negative_, negative_.is_integer()));
    if (!positive_.is_integer() && positive_.is_listed()) value_lists_[s].fill(units, positive_.listed(share), {});
}

void ContrastiveDivergence::run_by_shares(Rbm& rbm, Rbm& sampler, const Batch& data, View<std::uint64_t> chains,
                                          const CdOptions& options) {
    const Index blocks = ceil_div(n_hidden_, block_width);
    const Rows v = Rows::bits(states_, n_visible_), h = Rows::bits(chains, n_hidden_);
    const QuantizedMatrix& down = sampler.quantized(Direction::down);
    rbm.quantized(Direction::up);
    sampler.quantized(Direction::up);
    const bool carry = options.n_gibbs_steps > 1;
    if (carry) visible_sums_.reset(chains.rows, n_hidden_, down.blocks());
    const bool data_is_integer = positive_.is_integer();
    if (data_is_integer)
        positive_sums_.begin(shares_, rbm, data.count);
    else
        positive_products_.begin(shares_, data.count, blocks);
    chain_sums_.begin(shares_, sampler, chains.rows);
    float* const label_x = label_x_.reserve(chains.rows * rbm.n_labels());
    const bool corrects = pends_ && pending_.count() > 0;

    const auto positive_up = [&](int share) {
        if (data_is_integer)
            positive_sums_.sum(share, rbm, data, &positive_.list(share, data), false);
        else
            positive_products_.sum(share, rbm.parameters().w, data, positive_.list_values(share, data));
        if (!pends_) return;
        pending_.set_data(share, positive_.listed(share));
        pending_.compare(share, PendingUpdates::data);
    };
    const auto chain_down_and_up = [&](int share, Index t) {
        HalfStep out = drawing(states_, options, rng::Stream::visible, options.step + static_cast<std::uint64_t>(t));
        if (rbm.n_labels() > 0 && share == shares_.count() - 1) {
            out.labels = rbm.labels();
            out.label_x = label_x;
        }
        alignas(64) float x[tile_rows * block_width];
        if (corrects) pending_.project(share, all_of(h));
        sum_strips(down, all_of(h), {0, chains.rows}, shares_.blocks(share), carry ? &visible_sums_ : nullptr,
                   [&](Index row, Index rows, Index block, const std::int32_t* acc) {
                       Tile tile = tile_of(sampler, Direction::down, row, rows, block, acc, x);
                       if (corrects) {
                           tile.settle();
                           pending_.correct_visible(share, block, row, rows, x);
                       }
                       finish_tile(tile, out);
                   });
        if (out.label_x) draw_labels(out, chains.rows);
        const bool last = t + 1 == options.n_gibbs_steps;
        chain_sums_.sum(share, sampler, all_of(v), last ? &negative_.list(share, all_of(v)) : nullptr, carry);
        if (pends_)
            pending_.compare(share, PendingUpdates::chains);
        else if (last)
            turn_lists(share);
    };
    const auto finish = [&](Rbm& of, SharedSums* sums, Index rows, int share, Index block, const HalfStep& out) {
        alignas(64) std::int32_t acc[tile_rows * block_width];
        alignas(64) float x[tile_rows * block_width];
        for (Index row = 0; row < rows; row += tile_rows) {
            const Index n = std::min(tile_rows, rows - row);
            if (sums) {
                sums->gather(block, row, n, acc);
                Tile tile = tile_of(of, Direction::up, row, n, block, acc, x);
                if (corrects) {
                    tile.settle();
                    pending_.correct_hidden(share, block, row, n, x);
                }
                finish_tile(tile, out);
            } else {
                const Index j0 = block * block_width, cols = std::min(block_width, n_hidden_ - j0);
                positive_products_.gather(block, row, n, x);
                kernels().preactivate_f32({x, n, cols, block_width}, rbm.padded_bias(Direction::up) + j0, x);
                finish_tile(Tile{row, n, block, cols, x, nullptr, nullptr, nullptr}, out);
            }
        }
    };
    const HalfStep positive_out = positive_.kept(
        options.persistent ? HalfStep{} : drawing(chains, options, rng::Stream::hidden_start, options.step));
    const auto finish_positive = [&](int share) {
        if (corrects) pending_.gather(share, PendingUpdates::data);
        const Range mine = shares_.dealt(share, blocks);
        for (Index block = mine.begin; block < mine.end; ++block)
            finish(rbm, data_is_integer ? &positive_sums_ : nullptr, data.count, share, block, positive_out);
    };
    const auto finish_chain = [&](int share, Index t) {
        const bool last = t + 1 == options.n_gibbs_steps;
        HalfStep out;
        if (!last || options.persistent)
            out = drawing(chains, options, rng::Stream::hidden, options.step + static_cast<std::uint64_t>(t));
        if (last) out = negative_.kept(out);
        if (corrects) pending_.gather(share, PendingUpdates::chains);
        const Range mine = shares_.dealt(share, blocks);
        for (Index block = mine.begin; block < mine.end; ++block) {
            finish(sampler, &chain_sums_, chains.rows, share, block, out);
            if (pends_) pending_.turn(block);
        }
    };
    // Persistent chains go down while the data go up; those of CD begin with what the data drew.
    if (!options.persistent) {
        shares_.for_each(positive_up);
        shares_.for_each(finish_positive);
    }
    for (Index t = 0; t < options.n_gibbs_steps; ++t) {
        const bool with_data = options.persistent && t == 0;
        shares_.for_each([&](int share) {
            if (with_data) positive_up(share);
            chain_down_and_up(share, t);
        });
        if (carry) visible_sums_.set_states(all_of(h));
        shares_.for_each([&](int share) {
            if (with_data) finish_positive(share);
            finish_chain(share, t);
        });
    }
}

void ContrastiveDivergence::run_by_rows(Rbm& rbm, Rbm& sampler, const Batch& data, View<std::uint64_t> chains,
                                        const CdOptions& options) {
    const Rows v = Rows::bits(states_, n_visible_), h = Rows::bits(chains, n_hidden_);
    positive_.run(rbm, data,
                  options.persistent ? HalfStep{} : drawing(chains, options, rng::Stream::hidden_start, options.step));
    for (Index t = 0; t < options.n_gibbs_steps; ++t) {
        const std::uint64_t step = options.step + static_cast<std::uint64_t>(t);
        const bool last = t + 1 == options.n_gibbs_steps;
        half_step(sampler, Direction::down, all_of(h), drawing(states_, options, rng::Stream::visible, step));
        const HalfStep up =
            last && !options.persistent ? HalfStep{} : drawing(chains, options, rng::Stream::hidden, step);
        if (last)
            negative_.run(sampler, all_of(v), up);
        else
            half_step(sampler, Direction::up, all_of(v), up);
    }
    shares_.for_each([&](int share) { turn_lists(share); });
}

bool ContrastiveDivergence::has_one_factor() const {
    return positive_.is_integer() && !positive_.is_weighted() && positive_.rows() == negative_.rows();
}

float ContrastiveDivergence::bias_step(double positive, double negative, float a_positive, float a_negative) const {
    if (has_one_factor()) return static_cast<float>(positive - negative) * a_positive;
    return static_cast<float>(positive) * a_positive - static_cast<float>(negative) * a_negative;
}

void ContrastiveDivergence::visible_bias_step(double rate, int share, float* step) const {
    const Range units = shares_.units(share);
    const UnitLists& lists = lists_[static_cast<std::size_t>(share)];
    const UnitLists& values = value_lists_[static_cast<std::size_t>(share)];
    const auto factor = [&](const Phase& phase) {
        return static_cast<float>(rate / static_cast<double>(phase.rows()));
    };
    const float a_positive = positive_.is_weighted() ? positive_.factor(rate) : factor(positive_);
    const float a_negative = factor(negative_);
    if (pends_) {  // its lists are not turned; so few rows are counted exactly
        const Index n = units.end - units.begin;
        const auto count = [&](const RowLists& ones, float sign) {
            for (Index k = 0; k < ones.size(); ++k) step[ones.index[k]] += sign;
        };
        std::fill_n(step, n, 0.0f);
        count(positive_.listed(share), 1.0f);
        count(negative_.listed(share), -1.0f);
        for (Index i = 0; i < n; ++i) step[i] *= a_positive;
        return;
    }
    const auto sum_values = [&](Index i) {
        const ValueLists of = values.values(i);
        return std::accumulate(of.value + of.start[0], of.value + of.start[1], 0.0);
    };
    // Of the rows in which a unit is on, or not zero.
    const auto sum_factors = [&](Index i) {
        const auto sum = [&](const std::int32_t* row, const std::int32_t* end, const float* value) {
            double total = 0;
            for (; row < end; ++row) total += positive_.row_factor(*row) * (value ? static_cast<double>(*value++) : 1);
            return total;
        };
        if (positive_.is_integer()) {
            const ActiveLists of = lists.rows(i);
            return sum(of.index + *of.start, of.index + *lists.middle(i), nullptr);
        }
        const ValueLists of = values.values(i);
        return sum(of.index + of.start[0], of.index + of.start[1], of.value + of.start[0]);
    };
    for (Index i = 0; i < units.end - units.begin; ++i) {
        const Index begin = *lists.rows(i).start, middle = *lists.middle(i), end = lists.rows(i).start[1];
        const double positive = !positive_.is_listed()    ? positive_.sum_visible(units.begin + i)
                                : positive_.is_weighted() ? sum_factors(i)
                                : positive_.is_integer()  ? static_cast<double>(middle - begin)
                                                          : sum_values(i);
        const double negative =
            negative_.is_integer() ? static_cast<double>(end - middle) : negative_.sum_visible(units.begin + i);
        step[i] = bias_step(positive, negative, a_positive, a_negative);
    }
}

void ContrastiveDivergence::hidden_bias_step(double rate, Index block, float* step) const {
    double positive[block_width], negative[block_width];
    positive_.sum_hidden(block, positive);
    negative_.sum_hidden(block, negative);
    const float a_positive = positive_.factor(rate), a_negative = negative_.factor(rate);
    for (Index j = 0; j < std::min(block_width, n_hidden_ - block * block_width); ++j)
        step[j] = bias_step(positive[j], negative[j], a_positive, a_negative);
}

void ContrastiveDivergence::hidden_means(Index block, double* means) const {
    positive_.sum_hidden(block, means);
    for (Index j = 0; j < std::min(block_width, n_hidden_ - block * block_width); ++j) means[j] /= positive_.weight();
}

void ContrastiveDivergence::begin_weight_steps(double rate, int n_threads) {
    a_positive_ = positive_.factor(rate);
    a_negative_ = negative_.factor(rate);
    dense_ = {};
    if (positive_.is_listed()) return;
    dense_ = {dense_step_.reserve_zeros(n_visible_ * n_hidden_), n_visible_, n_hidden_, n_hidden_};
    positive_.add_product(a_positive_, dense_, n_threads);
    if (!negative_.is_integer()) negative_.add_product(-a_negative_, dense_, n_threads);
}

std::uint32_t ContrastiveDivergence::moving(int share, Index first, Index last) const {
    const Index unit0 = shares_.units(share).begin;
    std::uint32_t bits = 0;
    for (Index i = first; i < last; ++i) {
        const auto is_in = [&](const std::vector<UnitLists>& lists) {
            return !lists[static_cast<std::size_t>(share)].is_empty(i - unit0);
        };
        const bool moves = !positive_.is_listed() || is_in(lists_) || (!positive_.is_integer() && is_in(value_lists_));
        bits |= static_cast<std::uint32_t>(moves) << (i - first);
    }
    return bits;
}

void ContrastiveDivergence::weight_step(int share, Index first, Index last, std::uint32_t wanted, Range blocks,
                                        float* step) const {
    const Kernels& k = kernels();
    const Index unit = first - shares_.units(share).begin, stride = fixed_rows_ * block_width;
    const UnitLists& lists = lists_[static_cast<std::size_t>(share)];
    if (positive_.is_integer()) {
        const Index* middle = has_one_factor() ? nullptr : lists.middle(unit);
        k.cd_step_i16({lists.rows(unit), middle, steps_from_ + blocks.begin * stride, stride, a_positive_, a_negative_},
                      wanted, blocks.end - blocks.begin, step);
        return;
    }
    for (Index block = blocks.begin; block < blocks.end; ++block, step += tile_units * block_width) {
        alignas(64) std::int32_t negative[tile_units * block_width];
        alignas(64) float products[tile_units * block_width];
        if (negative_.is_integer())
            k.sum_rows_i16(lists.rows(unit), 0, last - first, steps_from_ + block * stride, negative);
        if (positive_.is_listed()) {
            positive_.sum_products(value_lists_[static_cast<std::size_t>(share)].values(unit), last - first, block,
                                   products);
            k.add_phases_f32(products, negative, (last - first) * block_width, a_positive_, a_negative_, step);
            continue;
        }
        const Index j0 = block * block_width, cols = std::min(block_width, n_hidden_ - j0);
        for (Index r = 0; r < last - first; ++r) {
            const float* positive = dense_.row(first + r) + j0;
            if (negative_.is_integer())
                k.add_phases_f32(positive, negative + r * block_width, cols, 1.0f, a_negative_, step + r * block_width);
            else
                std::copy_n(positive, cols, step + r * block_width);
        }
    }
}

void ContrastiveDivergence::gradient(View<float> w, float* b, float* c, int n_threads) {
    begin_weight_steps(1.0, n_threads);
    for (Index block = 0; block < ceil_div(n_hidden_, block_width); ++block)
        hidden_bias_step(1.0, block, c + block * block_width);
    shares_.for_each([&](int share) {
        const Range units = shares_.units(share);
        visible_bias_step(1.0, share, b + units.begin);
        alignas(64) float step[tile_units * block_width];
        for (Index first = units.begin; first < units.end; first += tile_units)
            for (Index j0 = 0; j0 < w.cols; j0 += block_width) {
                const Index last = std::min(first + tile_units, units.end), block = j0 / block_width;
                weight_step(share, first, last, first_bits(last - first), {block, block + 1}, step);
                for (Index i = first; i < last; ++i)
                    std::copy_n(step + (i - first) * block_width, std::min(block_width, w.cols - j0), w.row(i) + j0);
            }
    });
}

}  // namespace harmonium
