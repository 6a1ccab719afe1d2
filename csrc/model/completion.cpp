#include "model/completion.hpp"

#include "kernels/kernels.hpp"

namespace harmonium {

Completions::Completions(View<const std::uint64_t> observed, View<std::uint64_t> states, Index units)
    : observed_(observed), states_(states), units_(units), rows_(Rows::bits(states, units)) {}

void Completions::run(Rbm& rbm, const Batch& data, Index n_steps, std::uint64_t seed, std::uint64_t step) {
    // Rows of which all is known need no chain.
    Index* const incomplete = incomplete_.reserve(data.count);
    Index count = 0;
    for (Index n = 0; n < data.count; ++n) {
        const Index row = data.row(n);
        merge(row, data.rows.words(row), states_.row(row));
        if (!is_whole(row)) incomplete[count++] = row;
    }
    if (count == 0) return;
    const auto bits = [&](Buffer<std::uint64_t>& buffer, Index units) {
        const Index words = ceil_div(units, block_width);
        return View<std::uint64_t>{buffer.reserve(count * words), count, words, words};
    };
    HalfStep up, down;
    up.states = bits(hidden_, rbm.n_hidden());
    down.states = bits(drawn_, units_);
    // A row's numbers are those of its place in the data, whichever minibatch it is in.
    up.numbers = down.numbers = incomplete;
    const Batch completed{rows_, 0, count, incomplete};
    const Rows hidden = Rows::bits(up.states, rbm.n_hidden());
    for (const std::uint64_t end = step + static_cast<std::uint64_t>(n_steps); step < end; ++step) {
        up.draw = {seed, step, static_cast<std::uint32_t>(rng::Stream::completion_hidden)};
        down.draw = {seed, step, static_cast<std::uint32_t>(rng::Stream::completion_visible)};
        half_step(rbm, Direction::up, completed, up);
        half_step(rbm, Direction::down, all_of(hidden), down);
        for (Index n = 0; n < count; ++n) merge(incomplete[n], states_.row(incomplete[n]), down.states.row(n));
    }
}

bool Completions::is_whole(Index row) const {
    return kernels().count_ones(observed_.row(row), observed_.cols) == units_;
}

void Completions::merge(Index row, const std::uint64_t* seen, const std::uint64_t* drawn) {
    const std::uint64_t* observed = observed_.row(row);
    std::uint64_t* state = states_.row(row);
    for (Index w = 0; w < states_.cols; ++w) state[w] = (observed[w] & seen[w]) | (~observed[w] & drawn[w]);
}

}  // namespace harmonium
