#include "model/chains.hpp"

#include <algorithm>
#include <mutex>
#include <vector>

#include "model/energy.hpp"
#include "model/products.hpp"

namespace harmonium {
namespace {

// Block Gibbs sampling of some chains, their sums carried from step to step.
class GibbsSampler {
  public:
    // The chains are `first` … of those that the clamp has rows for.
    GibbsSampler(Rbm& rbm, const Chains& chains, const Clamp& clamp, Index first, int n_threads)
        : rbm_(rbm), chains_(chains), clamp_(clamp), first_(first), pass_{n_threads} {}

    // Sums are carried in these, of before if they are known.
    void carry(CarriedSums* up, CarriedSums* down) {
        up_ = up;
        down_ = down;
    }
    static void reset(Rbm& rbm, Index chains, CarriedSums& up, CarriedSums& down) {
        up.reset(chains, rbm.n_visible(), rbm.quantized(Direction::up).blocks());
        down.reset(chains, rbm.n_hidden(), rbm.quantized(Direction::down).blocks());
    }
    void set_temperature(const Temperature* temperature) { pass_.temperature = temperature; }

    Rows v() const { return Rows::bits(chains_.v, rbm_.n_visible()); }
    Rows h() const { return Rows::bits(chains_.h, rbm_.n_hidden()); }

    void draw_hidden(const Batch& from, const ChainDraws& draws, bool leaves_probabilities = false) {
        half_step(rbm_, Direction::up, from, hidden_step(draws, leaves_probabilities), pass_of(Direction::up, from));
    }
    void draw_visible(const ChainDraws& draws, bool leaves_probabilities = false) {
        HalfStep out;
        out.states = chains_.v;
        out.draw = {draws.seed, draws.step, static_cast<std::uint32_t>(rng::Stream::visible)};
        out.row0 = draws.row0;
        if (leaves_probabilities) out.probabilities = chains_.v_probabilities;
        const Rows hidden = h();
        half_step(rbm_, Direction::down, all_of(hidden), out, pass_of(Direction::down, all_of(hidden)));
        if (clamp_.holds())
            for (Index n = 0; n < chains_.v.rows; ++n) clamp_.apply(chains_.v.row(n), first_ + n);
    }
    // The same as draw_hidden from the visible states, and use(tile) of every tile of the RBM's own pre-activations
    // after its draw, a row's in order of their blocks.
    template <class Use>
    void draw_hidden_and(const ChainDraws& draws, Use&& use) {
        const Rows visible = v();
        const HalfStep out = hidden_step(draws, false);
        Pass pass = pass_of(Direction::up, all_of(visible));
        pass.rows_only = true;
        for_each_tile(rbm_, Direction::up, all_of(visible), pass, [&](const Tile& tile) {
            alignas(64) float x[tile_rows * block_width];
            finish_tile(pass.temperature->of(Direction::up, tile, x), out);
            use(tile);
        });
    }

  private:
    HalfStep hidden_step(const ChainDraws& draws, bool leaves_probabilities) const {
        HalfStep out;
        out.states = chains_.h;
        out.draw = {draws.seed, draws.step, static_cast<std::uint32_t>(rng::Stream::hidden)};
        out.row0 = draws.row0;
        if (leaves_probabilities) out.probabilities = chains_.h_probabilities;
        return out;
    }
    Pass pass_of(Direction direction, const Batch& from) const {
        Pass pass = pass_;
        if (from.rows.is_packed()) pass.carried = direction == Direction::up ? up_ : down_;
        return pass;
    }

    Rbm& rbm_;
    Chains chains_;
    Clamp clamp_;
    Index first_;
    Pass pass_;
    CarriedSums *up_ = nullptr, *down_ = nullptr;
};

// Kept: as large as lists are, and allocated as often.
struct ThreadSums {
    CarriedSums up, down;

    static ThreadSums& of_this_thread() {
        thread_local ThreadSums sums;
        return sums;
    }
};

// Float32 products carry nothing.
void carry_on_this_thread(GibbsSampler& sampler, Rbm& rbm, Index chains) {
    if (rbm.precision() != Precision::automatic) return;
    ThreadSums& sums = ThreadSums::of_this_thread();
    GibbsSampler::reset(rbm, chains, sums.up, sums.down);
    sampler.carry(&sums.up, &sums.down);
}

template <class T>
View<T> rows_of(View<T> all, Index begin, Index end) {
    return all.empty() ? all : all.row_range(begin, end);
}

ChainDraws from_row(ChainDraws draws, Index row) {
    draws.row0 += static_cast<std::uint32_t>(row);
    return draws;
}

// Chains know nothing of one another: f(begin, end) for strips of them, each of which takes all its steps before the
// next begins.
template <class F>
void for_each_strip(Index n_chains, int n_threads, F&& f) {
    parallel_ranges(n_chains, n_threads, [&](Index begin, Index end, int) {
        for (Index strip = begin; strip < end; strip += strip_rows) f(strip, std::min(strip + strip_rows, end));
    });
}

// `start` takes the place of the visible states in the first step; without it each step begins with h.
void gibbs(Rbm& rbm, const Batch* start, Index n_steps, const ChainDraws& draws, const Chains& chains,
           const Clamp& clamp) {
    const Index n = chains.h.rows;
    const auto run = [&](Index begin, Index end, int n_threads) {
        const Chains some{chains.v.row_range(begin, end), chains.h.row_range(begin, end),
                          rows_of(chains.v_probabilities, begin, end), rows_of(chains.h_probabilities, begin, end)};
        GibbsSampler sampler(rbm, some, clamp, begin, n_threads);
        if (n_steps > 1) carry_on_this_thread(sampler, rbm, end - begin);
        ChainDraws here = from_row(draws, begin);
        const Rows v = sampler.v();
        const Batch first = start ? Batch{start->rows, start->begin + begin, end - begin, start->order} : all_of(v);
        for (Index t = 0; t < n_steps; ++t, ++here.step) {
            const bool last = t + 1 == n_steps;
            if (start) sampler.draw_hidden(t == 0 ? first : all_of(v), here, last);
            sampler.draw_visible(here, last);
            if (!start) sampler.draw_hidden(all_of(v), here, last);
        }
    };
    if (rbm.precision() == Precision::float32) return run(0, n, rbm.n_threads());
    if (start && !start->rows.is_binary()) {
        // One step through the product of real values, for all chains together; from then on they are bits.
        if (n_steps <= 1) return run(0, n, rbm.n_threads());
        gibbs(rbm, start, 1, draws, {chains.v, chains.h, {}, {}}, clamp);
        const Rows v = Rows::bits(chains.v, rbm.n_visible());
        const Batch rest = all_of(v);
        return gibbs(rbm, &rest, n_steps - 1, {draws.seed, draws.step + 1, draws.row0}, chains, clamp);
    }
    rbm.quantized(Direction::down);
    const Split split = choose_split(rbm.quantized(Direction::up), n, Pass{rbm.n_threads()});
    if (split.by_blocks > 1) return run(0, n, rbm.n_threads());
    for_each_strip(n, split.by_rows, [&](Index begin, Index end) { run(begin, end, 1); });
}

// b − b₀
Buffer<double> bias_differences(const Rbm& rbm, const Path& path) {
    Buffer<double> difference;
    difference.reserve_zeros(ceil_div(rbm.n_visible(), block_width) * block_width);
    for (Index i = 0; i < rbm.n_visible(); ++i)
        difference[i] = static_cast<double>(rbm.parameters().b[i]) - static_cast<double>(path.base_bias[i]);
    return difference;
}

void make_quantized(Rbm& rbm) {
    // By the thread that asks first: not by several.
    if (rbm.precision() != Precision::automatic) return;
    rbm.quantized(Direction::up);
    rbm.quantized(Direction::down);
}

int threads_for_chains(Rbm& rbm, Index n_chains) {
    const double weights = static_cast<double>(rbm.n_visible()) * static_cast<double>(rbm.n_hidden()) / block_width;
    return threads_for(static_cast<double>(n_chains) * weights, rbm.n_threads());
}

}  // namespace

void Clamp::apply(std::uint64_t* state, Index chain) const {
    const std::uint64_t* held = mask.row(mask.rows == 1 ? 0 : chain);
    const std::uint64_t* value = values.row(values.rows == 1 ? 0 : chain);
    for (Index w = 0; w < mask.cols; ++w) state[w] = (state[w] & ~held[w]) | (value[w] & held[w]);
}

void gibbs_from_visible(Rbm& rbm, const Batch& start, Index n_steps, const ChainDraws& draws, const Chains& chains,
                        const Clamp& clamp) {
    gibbs(rbm, &start, n_steps, draws, chains, clamp);
}

void gibbs_from_hidden(Rbm& rbm, Index n_steps, const ChainDraws& draws, const Chains& chains, const Clamp& clamp) {
    gibbs(rbm, nullptr, n_steps, draws, chains, clamp);
}

void anneal(Rbm& rbm, const Path& path, const ChainDraws& draws, View<std::uint64_t> v, View<std::uint64_t> h,
            const Clamp& clamp, double* log_weights) {
    make_quantized(rbm);
    const Kernels& k = kernels();
    const Buffer<double> difference = bias_differences(rbm, path);
    for_each_strip(v.rows, threads_for_chains(rbm, v.rows), [&](Index begin, Index end) {
        const Index n = end - begin, n_sums = n * sum_lanes;
        GibbsSampler sampler(rbm, {v.row_range(begin, end), h.row_range(begin, end), {}, {}}, clamp, begin, 1);
        carry_on_this_thread(sampler, rbm, n);
        Buffer<double> slopes(n_sums), sums(n_sums);
        const View<const std::uint64_t> states = v.row_range(begin, end);
        Temperature at(rbm, path.base_bias);
        sampler.set_temperature(&at);
        ChainDraws draw = from_row(draws, begin);
        for (Index t = 1; t < path.count; ++t, ++draw.step) {
            const double beta = path.betas[t - 1], span = path.betas[t] - beta;
            at.set(path.betas[t]);
            slopes.reserve_zeros(n_sums);
            sums.reserve_zeros(n_sums);
            sampler.draw_hidden_and(draw, [&](const Tile& tile) {
                tile.fill();
                k.change_temperature_f32(tile.x, tile.rows, static_cast<float>(beta), static_cast<float>(span),
                                         &slopes[tile.row * sum_lanes], &sums[tile.row * sum_lanes]);
            });
            for (Index r = 0; r < n; ++r) {
                const double visible = k.sum_selected_f64(states.row(r), rbm.n_visible(), difference.data());
                log_weights[begin + r] +=
                    span * (visible + add_lanes(&slopes[r * sum_lanes])) + add_lanes(&sums[r * sum_lanes]);
            }
            sampler.draw_visible(draw);
        }
    });
}

namespace {

// Some chains at all temperatures.
class Replicas {
  public:
    Replicas(Rbm& rbm, const Path& path, const double* difference, View<std::uint64_t> v, View<std::uint64_t> h,
             const Clamp& clamp, Range chains, bool carries)
        : rbm_(rbm), path_(path), difference_(difference), n_(chains.end - chains.begin) {
        const Index all = v.rows / path.count;
        const auto count = static_cast<std::size_t>(path.count);
        sums_.resize(count);
        energies_.reserve(path.count * n_);
        temperatures_.reserve(count);
        samplers_.reserve(count);
        rows_.reserve(count);
        for (Index t = 0; t < path.count; ++t) {
            const Index begin = t * all + chains.begin;
            rows_.push_back({v.row_range(begin, begin + n_), h.row_range(begin, begin + n_), {}, {}});
            row0_.push_back(begin);
            temperatures_.emplace_back(rbm, path.base_bias);
            temperatures_.back().set(path.betas[t]);
            samplers_.emplace_back(rbm, rows_.back(), clamp, begin, 1);
            samplers_.back().set_temperature(&temperatures_.back());
            if (!carries) continue;
            ThreadSums& sums = sums_[static_cast<std::size_t>(t)];
            GibbsSampler::reset(rbm, n_, sums.up, sums.down);
            samplers_.back().carry(&sums.up, &sums.down);
        }
    }

    // A Gibbs step at a temperature, and the energies of its states.
    void step(Index t, const ChainDraws& draws) {
        GibbsSampler& sampler = samplers_[static_cast<std::size_t>(t)];
        const ChainDraws draw = from_row(draws, row0_[static_cast<std::size_t>(t)]);
        sampler.draw_visible(draw);
        begin_energies(t);
        sampler.draw_hidden_and(draw, [&](const Tile& tile) { add_energies(t, tile); });
    }
    // The energies of states as they are.
    void measure(Index t) {
        begin_energies(t);
        const Rows v = samplers_[static_cast<std::size_t>(t)].v();
        for_each_tile(rbm_, Direction::up, all_of(v), Pass{1, true}, [&](const Tile& tile) { add_energies(t, tile); });
    }
    // Each chain with that of the next temperature; returns how many did.
    std::int64_t exchange(Index t, const ChainDraws& draws, Index first_chain) {
        const double span = path_.betas[t] - path_.betas[t + 1];
        double *mine = energies_.data() + t * n_, *next = mine + n_;
        std::int64_t count = 0;
        const rng::Draw draw{draws.seed, draws.step, static_cast<std::uint32_t>(rng::Stream::exchange)};
        for (Index n = 0; n < n_; ++n) {
            // u < exp(x) without an exponential of its own: u·(1 − σ(x)) < σ(x), all in float32.
            const float x = static_cast<float>(std::min(span * (next[n] - mine[n]), 0.0));
            float p;
            kernels().sigmoid_f32(&x, 1, &p);
            const std::uint32_t word = rng::philox4x32({draws.row0 + static_cast<std::uint32_t>(first_chain + n),
                                                        static_cast<std::uint32_t>(t), draw.word2(), draw.word3()},
                                                       draw.seed)[0];
            if (!(static_cast<float>(word >> 8) * 0x1p-24f * (1.0f - p) < p)) continue;
            exchange_states(t, n);
            std::swap(mine[n], next[n]);
            ++count;
        }
        return count;
    }

  private:
    void begin_energies(Index t) {
        const View<std::uint64_t> v = rows_[static_cast<std::size_t>(t)].v;
        for (Index n = 0; n < n_; ++n)
            energies_[t * n_ + n] = kernels().sum_selected_f64(v.row(n), rbm_.n_visible(), difference_);
    }
    void add_energies(Index t, const Tile& tile) {
        const View<std::uint64_t> h = rows_[static_cast<std::size_t>(t)].h;
        tile.fill();
        for (Index r = 0; r < tile.rows; ++r) {
            double sum = 0;
            for (std::uint64_t on = h(tile.row + r, tile.block); on; on &= on - 1)
                sum += static_cast<double>(tile.x[r * block_width + __builtin_ctzll(on)]);
            energies_[t * n_ + tile.row + r] += sum;
        }
    }
    void exchange_states(Index t, Index n) {
        const auto k = static_cast<std::size_t>(t);
        for (const auto side : {&Chains::v, &Chains::h}) {
            const View<std::uint64_t> a = rows_[k].*side, b = rows_[k + 1].*side;
            std::swap_ranges(a.row(n), a.row(n) + a.cols, b.row(n));
        }
        if (!sums_[k].up.is_known() || !sums_[k + 1].up.is_known()) return;
        sums_[k].up.exchange(n, sums_[k + 1].up, n);
        sums_[k].down.exchange(n, sums_[k + 1].down, n);
    }

    Rbm& rbm_;
    Path path_;
    const double* difference_;
    Index n_;
    std::vector<ThreadSums> sums_;
    std::vector<Temperature> temperatures_;
    std::vector<GibbsSampler> samplers_;
    std::vector<Chains> rows_;
    std::vector<Index> row0_;
    Buffer<double> energies_;  // [temperature][chain]
};

}  // namespace

void temper(Rbm& rbm, const Path& path, Index n_rounds, Index resting, const ChainDraws& draws, View<std::uint64_t> v,
            View<std::uint64_t> h, const Clamp& clamp, View<std::int64_t> exchanges) {
    make_quantized(rbm);
    const Buffer<double> difference = bias_differences(rbm, path);
    const Index n_chains = v.rows / path.count;
    // Of one round, as in training, there is nothing to carry on.
    const bool carries = n_rounds > 1 && rbm.precision() == Precision::automatic;
    std::mutex counting;
    parallel_ranges(n_chains, threads_for_chains(rbm, v.rows), [&](Index begin, Index end, int) {
        Replicas replicas(rbm, path, difference.data(), v, h, clamp, {begin, end}, carries);
        std::vector<std::int64_t> count(static_cast<std::size_t>(path.count)), tried(count);
        ChainDraws draw = draws;
        for (Index round = 0; round < n_rounds; ++round, ++draw.step) {
            for (Index t = 0; t < path.count; ++t) t < resting ? replicas.measure(t) : replicas.step(t, draw);
            for (auto t = static_cast<Index>(draw.step % 2); t + 1 < path.count; t += 2) {
                count[static_cast<std::size_t>(t)] += replicas.exchange(t, draw, begin);
                tried[static_cast<std::size_t>(t)] += end - begin;
            }
        }
        const std::lock_guard<std::mutex> lock(counting);
        for (Index t = 0; t + 1 < path.count; ++t) {
            exchanges(0, t) += count[static_cast<std::size_t>(t)];
            exchanges(1, t) += tried[static_cast<std::size_t>(t)];
        }
    });
}

}  // namespace harmonium
