#include "model/shares.hpp"

#include <algorithm>

namespace harmonium {

void SharedSums::begin(const Shares& shares, Rbm& rbm, Index rows) {
    shares_ = shares;
    rows_ = rows;
    parts_.resize(static_cast<std::size_t>(shares.count()));
    for (int s = 0; s < shares.count(); ++s) {
        const Range units = shares.units(s);
        parts_[static_cast<std::size_t>(s)].reset(rows, units.end - units.begin, rbm.quantized(Direction::up).blocks());
    }
}

void SharedSums::sum(int share, Rbm& rbm, const Batch& visible, const ListBuffer* ones, bool carry) {
    CarriedSums& part = parts_[static_cast<std::size_t>(share)];
    const Range units = shares_.units(share);
    const QuantizedMatrix& q = rbm.quantized(Direction::up);
    ListBuffer& buffer = ListBuffer::of_this_thread();
    // Lists that are there already, unless fewer units changed than are on, or fewer are off.
    const bool reuse = ones && !part.is_known() && !ones->mostly_on();
    const ChangeLists& lists = reuse ? ones->lists() : buffer.fill(visible, 0, rows_, units, &part);
    alignas(64) std::int32_t all[block_width];
    for (Index block = 0; block < q.blocks(); ++block) {
        const std::int16_t* weights = q.block(block) + units.begin * block_width;
        if (!reuse && buffer.wants_all()) buffer.sum_all(weights, units.end - units.begin, all);
        kernels().change_rows_i16(lists, 0, rows_, weights, q.block_cols(block), all, part.tile(block, 0));
    }
    if (carry) part.set_states(visible, units.begin);
}

void SharedSums::gather(Index block, Index row, Index rows, std::int32_t* acc) {
    add_parts(parts_.size(), rows * block_width, acc, [&](std::size_t s) { return parts_[s].tile(block, row); });
}

void SharedProducts::begin(const Shares& shares, Index rows, Index blocks) {
    shares_ = shares;
    rows_ = rows;
    parts_.resize(static_cast<std::size_t>(shares.count()));
    for (Buffer<float>& part : parts_) part.reserve(blocks * rows * block_width);
}

void SharedProducts::sum(int share, View<const float> w, const Batch& data, const ValueLists& rows) {
    const Range units = shares_.units(share);
    const Index n = units.end - units.begin;
    float* const sums = parts_[static_cast<std::size_t>(share)].data();
    // Where most values are not zero, each weight is fetched once for many rows (1000-1000, ten rows, one thread: an
    // update takes 950 instead of 1300 microseconds).
    const bool dense = 2 * rows.start[rows_] > rows_ * n;
    View<const float> x;
    if (dense) {
        x = DenseBuffer::of_this_thread().values(data, 0, rows_);
        std::fill_n(sums, ceil_div(w.cols, block_width) * rows_ * block_width, 0.0f);
    }
    for (Index j0 = 0; j0 < w.cols; j0 += block_width) {
        const View<const float> block{w.row(units.begin) + j0, n, std::min(block_width, w.cols - j0), w.stride};
        float* const to = sums + j0 * rows_;
        if (dense)
            kernels().multiply_f32(
                {x.data + units.begin, x.stride, 1, block, {to, rows_, block.cols, block_width}, 1.0f});
        else
            kernels().sum_values_f32(rows, 0, rows_, block, to);
    }
}

void SharedProducts::gather(Index block, Index row, Index rows, float* sums) const {
    const Index from = (block * rows_ + row) * block_width;
    add_parts(parts_.size(), rows * block_width, sums, [&](std::size_t s) { return parts_[s].data() + from; });
}

}  // namespace harmonium
