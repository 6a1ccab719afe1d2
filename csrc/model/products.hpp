// How a batch goes through the machine: for_each_tile computes pre-activations of up to 16 rows × 64 outputs at a time
// and hands each tile, still in the first-level cache, to what is done with it.
#pragma once

#include <algorithm>
#include <vector>

#include "core/blas.hpp"
#include "core/parallel.hpp"
#include "kernels/kernels.hpp"
#include "model/rbm.hpp"

namespace harmonium {

constexpr Index tile_rows = 16;  // 16 × 64 sums and as many floats: 8 KB
constexpr Index strip_rows = 128;  // rows that go through one block of weights before the next is fetched

struct Tile {
    Index row, rows;  // of the batch
    Index block, cols;  // block of outputs, and how many of its 64 columns are not padding
    float* x;  // rows × 64 pre-activations; may be overwritten
    const std::int32_t* acc;  // the integer sums behind x; null on the float32 path
};

// Lists of ones of consecutive rows.
class ListBuffer {
  public:
    // list(row, out) writes the ones of a row and returns how many.
    template <class F>
    ActiveLists fill(Index begin, Index end, Index cols, F&& list) {
        const Index room = ceil_div(cols, block_width) * block_width;
        std::int32_t* index = index_.reserve((end - begin) * room);
        Index* start = start_.reserve(end - begin + 1);
        start[0] = 0;
        for (Index r = begin; r < end; ++r) start[r - begin + 1] = start[r - begin] + list(r, index + start[r - begin]);
        return {index, start};
    }

    // One a thread, kept: strips of lists are larger than malloc keeps at hand, and fresh pages cost more than the
    // sums.
    static ListBuffer& of_this_thread() {
        thread_local ListBuffer buffer;
        return buffer;
    }

  private:
    Buffer<std::int32_t> index_;
    Buffer<Index> start_;
};

// How the tiles of a product are dealt to threads. The one place that decides; the results are the same either way.
struct Split {
    int by_rows, by_blocks;
};

inline Split choose_split(Index rows, Index blocks, double work, int n_threads, bool rows_only) {
    const int n = threads_for(work, n_threads);
    // A row's sums of all blocks want its list of ones, a block's of all rows want its weights: lists are cheaper to
    // make twice than weights are to fetch, unless each thread has rows enough to use its weights well.
    if (rows_only || rows >= static_cast<Index>(n) * 4 * tile_rows) return {n, 1};
    return {1, static_cast<int>(std::min<Index>(n, blocks))};
}

// The share of units that are on in a trained machine, more or less: all that is known of the work before it is done.
constexpr double usual_density = 0.2;

// Sums of the selected rows of q for each row of `list`, tile by tile: use(row, rows, block, acc).
template <class List, class Use>
void for_each_sum(const QuantizedMatrix& q, Index n_rows, List&& list, int n_threads, bool rows_only, Use&& use) {
    const double work = static_cast<double>(n_rows) * static_cast<double>(q.blocks()) *
                        (16.0 + usual_density * static_cast<double>(q.inputs()));
    const Split split = choose_split(n_rows, q.blocks(), work, n_threads, rows_only);
    const Kernels& k = kernels();
    const auto strips = [&](Index row_begin, Index row_end, Index block_begin, Index block_end) {
        ListBuffer& buffer = ListBuffer::of_this_thread();
        alignas(64) std::int32_t acc[tile_rows * block_width];
        for (Index strip = row_begin; strip < row_end; strip += strip_rows) {
            const Index end = std::min(strip + strip_rows, row_end);
            const ActiveLists lists = buffer.fill(strip, end, q.inputs(), list);
            for (Index block = block_begin; block < block_end; ++block)
                for (Index row = strip; row < end; row += tile_rows) {
                    const Index rows = std::min(tile_rows, end - row);
                    k.sum_rows_i16(lists, row - strip, row - strip + rows, q.block(block), acc);
                    use(row, rows, block, acc);
                }
        }
    };
    if (split.by_rows > 1)
        parallel_ranges(n_rows, split.by_rows, [&](Index begin, Index end, int) { strips(begin, end, 0, q.blocks()); });
    else
        parallel_ranges(q.blocks(), split.by_blocks,
                        [&](Index begin, Index end, int) { strips(0, n_rows, begin, end); });
}

// Calls use(tile) for every tile of the pre-activations of a batch. With rows_only a row's tiles come in order of their
// blocks, all on one thread.
template <class Use>
void for_each_tile(Rbm& rbm, Direction direction, const Batch& batch, bool rows_only, Use&& use) {
    const Kernels& k = kernels();
    const float* bias = rbm.padded_bias(direction);
    if (rbm.takes_integer_path(batch.rows)) {
        const QuantizedMatrix& q = rbm.quantized(direction);
        for_each_sum(
            q, batch.count, [&](Index n, std::int32_t* out) { return batch.rows.list_ones(batch.row(n), out); },
            rbm.n_threads(), rows_only,
            [&](Index row, Index rows, Index block, const std::int32_t* acc) {
                alignas(64) float x[tile_rows * block_width];
                const Index j0 = block * block_width;
                k.preactivate_i32(acc, rows, q.scale() + j0, bias + j0, x);
                use(Tile{row, rows, block, q.block_cols(block), x, acc});
            });
        return;
    }
    // Real values: a strip of rows at a time through sgemm, large enough for the BLAS to run at its full speed.
    constexpr Index gemm_rows = 1024;
    const Index inputs = rbm.inputs(direction), outputs = rbm.outputs(direction);
    const Index blocks = ceil_div(outputs, block_width);
    const View<const float> all = batch.order ? View<const float>{} : batch.rows.as_f32();
    for (Index strip = 0; strip < batch.count; strip += gemm_rows) {
        const Index n = std::min(gemm_rows, batch.count - strip);
        View<const float> x =
            all.empty() ? View<const float>{} : all.row_range(batch.begin + strip, batch.begin + strip + n);
        if (all.empty()) {
            float* to = rbm.scratch().inputs.reserve(n * inputs);
            parallel_ranges(n, threads_for(static_cast<double>(n * inputs), rbm.n_threads()),
                            [&](Index begin, Index end, int) {
                                for (Index r = begin; r < end; ++r)
                                    batch.rows.copy_values(batch.row(strip + r), to + r * inputs);
                            });
            x = {to, n, inputs, inputs};
        }
        const View<float> y{rbm.scratch().products.reserve(n * outputs), n, outputs, outputs};
        sgemm(Transpose::no, direction == Direction::up ? Transpose::no : Transpose::yes, 1.0f, x, rbm.parameters().w,
              0.0f, y, rbm.n_threads());
        const int n_threads = threads_for(4.0 * static_cast<double>(n * outputs), rbm.n_threads());
        parallel_ranges(ceil_div(n, tile_rows), n_threads, [&](Index begin, Index end, int) {
            alignas(64) float tile[tile_rows * block_width];
            for (Index row = begin * tile_rows; row < std::min(end * tile_rows, n); row += tile_rows)
                for (Index block = 0; block < blocks; ++block) {
                    const Index rows = std::min(tile_rows, n - row), j0 = block * block_width;
                    const Index cols = std::min(block_width, outputs - j0);
                    k.preactivate_f32({y.row(row) + j0, rows, cols, y.stride}, bias + j0, tile);
                    use(Tile{strip + row, rows, block, cols, tile, nullptr});
                }
        });
    }
}

}  // namespace harmonium
