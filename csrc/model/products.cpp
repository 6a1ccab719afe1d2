#include "model/products.hpp"

#include <algorithm>
#include <atomic>
#include <numeric>

namespace harmonium {
namespace {

std::atomic<ForcedWay> forced{ForcedWay::nearest};

// The words of some units of a packed row.
const std::uint64_t* words_of(const Batch& batch, Index row, Range units) {
    return batch.rows.words(batch.row(row)) + units.begin / block_width;
}

}  // namespace

void force_way(ForcedWay way) { forced.store(way, std::memory_order_relaxed); }

From Ways::operator()(Index on, Index changed, Index units) const {
    switch (forced.load(std::memory_order_relaxed)) {
        case ForcedWay::none:
            return From::none;
        case ForcedWay::last:
            return knows_last ? From::last : From::none;
        case ForcedWay::all:
            return From::all;
        case ForcedWay::nearest:
            break;
    }
    const Index off = units - on;
    if (knows_last && changed < on && (changed < off || !may_use_all)) return From::last;
    return may_use_all && off < on ? From::all : From::none;
}

void CarriedSums::exchange(Index chain, CarriedSums& with, Index other) {
    for (Index block = 0; block < blocks_; ++block) {
        std::int32_t* mine = tile(block, chain);
        std::swap_ranges(mine, mine + block_width, with.tile(block, other));
    }
    std::uint64_t* state = states_.data() + chain * words_;
    std::swap_ranges(state, state + words_, with.states_.data() + other * words_);
}

void ListBuffer::reserve(Index rows, Index cols) {
    // Two lists of a row share its room; the second is written past its end, though not by a block.
    index_.reserve((rows * ceil_div(cols, block_width) + 1) * block_width);
    start_.reserve(2 * rows + 1);
    from_.reserve(rows);
    difference_.reserve(ceil_div(cols, block_width));
    start_[0] = 0;
    lists_ = {index_.data(), start_.data(), from_.data()};
}

const ChangeLists& ListBuffer::fill_ones(const Batch& batch, Index begin, Index end, Range units) {
    reserve(end - begin, units.end - units.begin);
    Index* start = start_.data();
    for (Index r = begin; r < end; ++r, start += 2) {
        from_[r - begin] = From::none;
        start[1] = start[2] =
            start[0] + batch.rows.list_ones(batch.row(r), units.begin, units.end, index_.data() + start[0]);
    }
    wants_all_ = false;
    mostly_on_ = 2 * start[0] > (end - begin) * (units.end - units.begin);
    return lists_;
}

const ChangeLists& ListBuffer::fill(const Batch& batch, Index begin, Index end, Range units,
                                    const CarriedSums* carried) {
    if (!batch.rows.is_packed()) return fill_ones(batch, begin, end, units);
    const Index n = units.end - units.begin, words = ceil_div(n, block_width);
    reserve(end - begin, n);
    const Kernels& k = kernels();
    // The sums of all units cost as much as n of theirs: some rows must save that together.
    Ways ways{carried && carried->is_known(), false};
    Index* on = on_.reserve(end - begin);
    Index saved = 0;
    for (Index r = begin; r < end; ++r) {
        on[r - begin] = k.count_ones(words_of(batch, r, units), words);
        saved += std::max<Index>(0, 2 * on[r - begin] - n);
    }
    ways.may_use_all = saved > n;

    wants_all_ = false;
    std::uint64_t* difference = difference_.data();
    // The units that are on in a, seen through `flip`, and off in b.
    const auto list = [&](const std::uint64_t* a, std::uint64_t flip, const std::uint64_t* b, std::int32_t* out) {
        for (Index w = 0; w < words; ++w) difference[w] = (a[w] ^ flip) & ~(b ? b[w] : 0);
        return k.list_ones_bits(difference, n, out);
    };
    Index* start = start_.data();
    for (Index r = begin; r < end; ++r, start += 2) {
        const std::uint64_t* now = words_of(batch, r, units);
        const std::uint64_t* before = ways.knows_last ? carried->state(r) : nullptr;
        const Index changed = before ? k.count_changes(now, before, words) : 0;
        const From from = from_[r - begin] = ways(on[r - begin], changed, n);
        start[1] = start[0];
        if (from != From::all)
            start[1] += list(now, 0, from == From::last ? before : nullptr, index_.data() + start[0]);
        start[2] = start[1];
        if (from == From::last) start[2] += list(before, 0, now, index_.data() + start[1]);
        if (from == From::all) start[2] += list(now, ~std::uint64_t{0}, nullptr, index_.data() + start[1]);
        wants_all_ |= from == From::all;
    }
    return lists_;
}

void ListBuffer::sum_all(const std::int16_t* block, Index inputs, std::int32_t* all) {
    if (n_every_ < inputs) {
        std::int32_t* every = every_.reserve(inputs);
        std::iota(every, every + inputs, 0);
        n_every_ = inputs;
    }
    const Index start[2] = {0, inputs};
    kernels().sum_rows_i16({every_.data(), start}, 0, 1, block, all);
}

}  // namespace harmonium
