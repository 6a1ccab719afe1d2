#include "model/rbm.hpp"

#include <algorithm>

#include "model/products.hpp"

namespace harmonium {
Rbm::Rbm(Parameters parameters, Precision precision, int n_threads, Index n_labels)
    : parameters_(parameters), precision_(precision), n_threads_(resolve_threads(n_threads)), n_labels_(n_labels) {
    for (const Direction d : {Direction::up, Direction::down}) {
        (d == Direction::up ? padded_c_ : padded_b_).reserve_zeros(ceil_div(outputs(d), block_width) * block_width);
        refresh_bias(d, 0, outputs(d));
    }
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
        const rng::Counter words =
            rng::philox4x32({out.row0 + static_cast<std::uint32_t>(r), place, draw.word2(), draw.word3()}, draw.seed);
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

void finish_tile(const Tile& tile, const HalfStep& out) {
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
    for_each_tile(rbm, direction, batch, pass, [&](const Tile& tile) { finish_tile(tile, to); });
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

namespace {

// Block Gibbs sampling of some chains, their sums carried from step to step.
class GibbsSampler {
  public:
    GibbsSampler(Rbm& rbm, const Chains& chains, Index n_steps, rng::Draw draw, std::uint32_t row0, int n_threads)
        : rbm_(rbm), chains_(chains), n_steps_(n_steps), draw_(draw), row0_(row0), pass_{n_threads} {
        carries_ = n_steps > 1 && rbm.precision() == Precision::automatic;
        if (!carries_) return;
        sums_of_this_thread(Direction::up).reset(chains.h.rows, rbm.n_visible(), rbm.quantized(Direction::up).blocks());
        sums_of_this_thread(Direction::down)
            .reset(chains.h.rows, rbm.n_hidden(), rbm.quantized(Direction::down).blocks());
    }

    // `start` takes the place of the visible states in the first step; without it each step begins with h.
    void run(const Batch* start) {
        const Rows v = Rows::bits(chains_.v, rbm_.n_visible()), h = Rows::bits(chains_.h, rbm_.n_hidden());
        for (Index t = 0; t < n_steps_; ++t, ++draw_.step) {
            const bool last = t + 1 == n_steps_;
            if (start) draw_side(Direction::up, t == 0 ? *start : all_of(v), last);
            draw_side(Direction::down, all_of(h), last);
            if (!start) draw_side(Direction::up, all_of(v), last);
        }
    }

  private:
    // Kept: as large as lists are, and allocated as often.
    static CarriedSums& sums_of_this_thread(Direction direction) {
        thread_local CarriedSums up, down;
        return direction == Direction::up ? up : down;
    }

    // One half of a Gibbs step; `last` also leaves the probabilities.
    void draw_side(Direction direction, const Batch& from, bool last) {
        const bool up = direction == Direction::up;
        HalfStep out;
        out.states = up ? chains_.h : chains_.v;
        out.draw = draw_;
        out.draw.stream = static_cast<std::uint32_t>(up ? rng::Stream::hidden : rng::Stream::visible);
        out.row0 = row0_;
        if (last) out.probabilities = up ? chains_.h_probabilities : chains_.v_probabilities;
        Pass pass = pass_;
        if (carries_ && from.rows.is_packed()) pass.carried = &sums_of_this_thread(direction);
        half_step(rbm_, direction, from, out, pass);
    }

    Rbm& rbm_;
    Chains chains_;
    Index n_steps_;
    rng::Draw draw_;
    std::uint32_t row0_;
    Pass pass_;
    bool carries_;
};

template <class T>
View<T> rows_of(View<T> all, Index begin, Index end) {
    return all.empty() ? all : all.row_range(begin, end);
}

void gibbs(Rbm& rbm, const Batch* start, Index n_steps, std::uint64_t seed, std::uint64_t step, std::uint32_t row0,
           const Chains& chains) {
    const rng::Draw draw{seed, step, 0};
    const Index n = chains.h.rows;
    const auto run = [&](Index begin, Index end, int n_threads) {
        const Chains some{chains.v.row_range(begin, end), chains.h.row_range(begin, end),
                          rows_of(chains.v_probabilities, begin, end), rows_of(chains.h_probabilities, begin, end)};
        GibbsSampler sampler(rbm, some, n_steps, draw, row0 + static_cast<std::uint32_t>(begin), n_threads);
        if (!start) return sampler.run(nullptr);
        const Batch from{start->rows, start->begin + begin, end - begin, start->order};
        sampler.run(&from);
    };
    if (rbm.precision() == Precision::float32) return run(0, n, rbm.n_threads());
    if (start && !start->rows.is_binary()) {
        // One step through the product of real values, for all chains together; from then on they are bits.
        if (n_steps <= 1) return run(0, n, rbm.n_threads());
        gibbs(rbm, start, 1, seed, step, row0, {chains.v, chains.h, {}, {}});
        const Rows v = Rows::bits(chains.v, rbm.n_visible());
        const Batch rest = all_of(v);
        return gibbs(rbm, &rest, n_steps - 1, seed, step + 1, row0, chains);
    }
    rbm.quantized(Direction::down);
    const Split split = choose_split(rbm.quantized(Direction::up), n, Pass{rbm.n_threads()});
    if (split.by_blocks > 1) return run(0, n, rbm.n_threads());
    // Chains know nothing of one another: a strip of them takes all its steps before the next begins.
    parallel_ranges(n, split.by_rows, [&](Index begin, Index end, int) {
        for (Index strip = begin; strip < end; strip += strip_rows) run(strip, std::min(strip + strip_rows, end), 1);
    });
}

}  // namespace

void gibbs_from_visible(Rbm& rbm, const Batch& start, Index n_steps, std::uint64_t seed, std::uint64_t step,
                        std::uint32_t row0, const Chains& chains) {
    gibbs(rbm, &start, n_steps, seed, step, row0, chains);
}

void gibbs_from_hidden(Rbm& rbm, Index n_steps, std::uint64_t seed, std::uint64_t step, std::uint32_t row0,
                       const Chains& chains) {
    gibbs(rbm, nullptr, n_steps, seed, step, row0, chains);
}

}  // namespace harmonium
