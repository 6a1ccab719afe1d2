#include "model/pending.hpp"

#include <algorithm>

namespace harmonium {

Index PendingUpdates::most(Index n_visible, Index n_hidden, Index rows) {
    const auto [smaller, larger] = std::minmax(n_visible, n_hidden);
    // Sums over an update's rows stay below 2³¹, counts of units below 2¹⁵.
    if (rows * larger > 65536 || n_visible > 32767) return 1;
    // Corrections grow with the rows pending, and the pass's share of an update shrinks: the two meet at sixty rows of
    // data, fewer where W is narrow (docs/performance.md).
    constexpr Index most_rows = 60, most_updates = 16;
    return std::clamp<Index>(std::min(most_rows, smaller / 4) / rows, 1, most_updates);
}

void PendingUpdates::begin(const Shares& shares, Index n_visible, Index n_hidden, Index rows, Index most) {
    shares_ = shares;
    share_.resize(static_cast<std::size_t>(shares.count()));
    n_visible_ = n_visible;
    batch_ = rows;
    most_ = most;
    count_ = 0;
    const Index all = integers_rows(), words = ceil_div(n_visible, block_width);
    states_ = {words_.reserve(all * words), all, words, words};
    integers_.reserve(ceil_div(n_hidden, block_width) * all * block_width);
    if (turned_.inputs() != n_hidden || turned_.outputs() != all) turned_.resize(n_hidden, all);
    n_hidden_ = n_hidden;
    for (Share& share : share_) {
        for (Buffer<std::int16_t>& common : share.common) common.reserve(rows * all);
        share.all_common.reserve(rows * all);
        share.projected.reserve(rows * turned_.blocks() * block_width);
    }
}

void PendingUpdates::set_data(int share, const RowLists& ones) {
    const Range blocks = shares_.blocks(share);
    const View<std::uint64_t> states = visible(data);
    for (Index n = 0, k = 0; n < ones.rows; ++n) {
        std::uint64_t* words = states.row(n) + blocks.begin;
        std::fill_n(words, blocks.end - blocks.begin, std::uint64_t{0});
        for (; k < ones.end(n); ++k)
            words[ones.index[k] / block_width] |= std::uint64_t{1} << ones.index[k] % block_width;
    }
}

void PendingUpdates::turn(Index block) {
    const Index j0 = block * block_width, cols = std::min(block_width, n_hidden_ - j0);
    const std::int16_t* from = integers_.data() + block * integers_rows() * block_width;
    const Index begin = rows(), end = begin + 2 * batch_;
    // By eights of rows; where they are not all of this update, some are turned again.
    for (Index rows64 = begin / block_width; rows64 * block_width < end; ++rows64) {
        const Index row = rows64 * block_width;
        const Index first = std::max<Index>(begin - row, 0) / 8,
                    last = std::min(ceil_div(end - row, 8), block_width / 8);
        kernels().transpose_eights(from + row * block_width, block_width, first_bits(last) & ~first_bits(first), cols,
                                   turned_.block(rows64) + j0 * block_width);
    }
}

void PendingUpdates::close(float factor) {
    factor_ = factor;
    ++count_;
}

void PendingUpdates::compare(int share, Side side) {
    if (count_ == 0) return;
    const Range blocks = shares_.blocks(share);
    const View<std::uint64_t> states = visible(side);
    const View<const std::uint64_t> pending{states_.data + blocks.begin, rows(), blocks.end - blocks.begin,
                                            states_.stride};
    std::int16_t* common = share_[static_cast<std::size_t>(share)].common[side].data();
    for (Index n = 0; n < batch_; ++n)
        kernels().count_common(states.row(n) + blocks.begin, pending, common + n * rows());
}

void PendingUpdates::gather(int share, Side side) {
    if (count_ == 0) return;
    std::int16_t* all = share_[static_cast<std::size_t>(share)].all_common.data();
    add_parts(share_.size(), batch_ * rows(), all, [&](std::size_t s) { return share_[s].common[side].data(); });
}

void PendingUpdates::correct_hidden(int share, Index block, Index row, Index rows, float* x) const {
    const HiddenCorrection by{count_, 2 * batch_, this->rows(), factor_,
                              integers_.data() + block * integers_rows() * block_width};
    kernels().correct_hidden(by, share_[static_cast<std::size_t>(share)].all_common.data() + row * by.stride, rows, x);
}

void PendingUpdates::project(int share, const Batch& hidden) {
    if (count_ == 0) return;
    const Index stride = turned_.blocks() * block_width;
    std::int32_t* projected = share_[static_cast<std::size_t>(share)].projected.data();
    sum_strips(turned_, hidden, {0, batch_}, {0, ceil_div(rows(), block_width)}, nullptr,
               [&](Index row, Index rows, Index block, const std::int32_t* acc) {
                   for (Index n = 0; n < rows; ++n)
                       std::copy_n(acc + n * block_width, block_width,
                                   projected + (row + n) * stride + block * block_width);
               });
}

void PendingUpdates::correct_visible(int share, Index block, Index row, Index rows, float* x) const {
    const VisibleCorrection by{count_,  2 * batch_,           turned_.blocks() * block_width,
                               factor_, states_.data + block, states_.stride};
    kernels().correct_visible(by, share_[static_cast<std::size_t>(share)].projected.data() + row * by.stride, rows, x);
}

RowLists PendingUpdates::listed(int share) {
    ListBuffer& ones = share_[static_cast<std::size_t>(share)].ones;
    const Rows pending = Rows::bits(states_, n_visible_);
    ones.fill_ones({pending, 0, rows()}, 0, rows(), shares_.units(share));
    return {rows(), ones.lists().index, nullptr, ones.lists().start, 2};
}

}  // namespace harmonium
