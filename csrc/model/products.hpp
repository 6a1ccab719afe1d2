// How a batch goes through the machine: for_each_tile computes pre-activations of up to 16 rows × 64 outputs at a time
// and hands each tile, still in the first-level cache, to what is done with it.
#pragma once

#include <algorithm>
#include <vector>

#include "core/parallel.hpp"
#include "kernels/kernels.hpp"
#include "model/rbm.hpp"

namespace harmonium {

constexpr Index tile_rows = 16;  // 16 × 64 sums and as many floats: 8 KB
constexpr Index strip_rows = 256;  // rows that go through one block of weights before the next is fetched

struct Tile {
    Index row, rows;  // of the batch
    Index block, cols;  // block of outputs, and how many of its 64 columns are not padding
    float* x;  // rows × 64 pre-activations, on the integer path after fill(); may be overwritten
    const std::int32_t* acc;  // the integer sums behind x; null on the float32 path
    const float *scale, *bias;  // of the block

    void fill() const {
        if (acc) kernels().preactivate_i32(acc, rows, scale, bias, x);
    }
    // x is now all there is: it may be changed.
    void settle() {
        fill();
        acc = nullptr;
    }
};

// An RBM at inverse temperature β: a machine between a base, whose visible units have biases b₀ and know nothing of one
// another, and the RBM itself,
//   −E_β(v, h) = ((1 − β)·b₀ + β·b)·v + β·(c·h + vᵀWh).
// Integer sums don't depend on it; what is made of them does.
class Temperature {
  public:
    // The base's biases are read by set().
    Temperature(Rbm& rbm, const float* base_bias);
    void set(double beta);
    double beta() const { return beta_; }
    // A tile of the RBM at this temperature; x is room for its pre-activations. The RBM's own stays as it is.
    Tile of(Direction direction, const Tile& tile, float* x) const;

  private:
    Buffer<float>& scale_of(Direction d) { return scale_[static_cast<int>(d)]; }
    Buffer<float>& bias_of(Direction d) { return bias_[static_cast<int>(d)]; }
    const Buffer<float>& scale_of(Direction d) const { return scale_[static_cast<int>(d)]; }
    const Buffer<float>& bias_of(Direction d) const { return bias_[static_cast<int>(d)]; }

    Rbm& rbm_;
    const float* base_bias_;
    double beta_ = 1;
    Buffer<float> scale_[2], bias_[2];  // of each direction's outputs, padded to whole blocks
};

// Integer sums of some chains, carried from step to step while the weights stand still: the next sums are these plus
// the rows of weights that went on minus those that went off, exactly.
class CarriedSums {
  public:
    // Room for so many chains; nothing is known of their sums yet.
    void reset(Index chains, Index inputs, Index blocks) {
        chains_ = chains;
        words_ = ceil_div(inputs, block_width);
        blocks_ = blocks;
        acc_.reserve(chains * blocks * block_width);
        states_.reserve(chains * words_);
        is_known_ = false;
    }
    bool is_known() const { return is_known_; }
    // Chains of two such sums, of the same machine, change places.
    void exchange(Index chain, CarriedSums& with, Index other);
    std::int32_t* tile(Index block, Index chain) { return acc_.data() + (block * chains_ + chain) * block_width; }
    // The inputs of a chain whose sums are known.
    const std::uint64_t* state(Index chain) const { return states_.data() + chain * words_; }
    // The sums are now those of these inputs, from unit `first` on: as many as reset() was told of.
    void set_states(const Batch& batch, Index first = 0) {
        for (Index n = 0; n < batch.count; ++n)
            std::copy_n(batch.rows.words(batch.row(n)) + first / block_width, words_, states_.data() + n * words_);
        is_known_ = true;
    }

  private:
    Index chains_ = 0, words_ = 0, blocks_ = 0;
    Buffer<std::int32_t> acc_;
    Buffer<std::uint64_t> states_;
    bool is_known_ = false;
};

// From which state a row's sums are reached: the one fewest units away, where `on` of its units are on and, if the
// state of before is known, `changed` since then. The one place that decides; the sums are the same integers whichever
// it is (benchmarks/bench_ways.py compares). For tests and benchmarks `force_way` takes the decision away.
struct Ways {
    bool knows_last;
    bool may_use_all;

    From operator()(Index on, Index changed, Index units) const;
};
enum class ForcedWay : int { nearest, none, last, all };
void force_way(ForcedWay way);

// Rows as lists of the units in which they differ from the state their sums are reached from.
class ListBuffer {
  public:
    // Of rows begin … end − 1 of a batch; `carried` may know their last sums. Units are counted from the first of their
    // range, which is that of `carried`.
    const ChangeLists& fill(const Batch& batch, Index begin, Index end, Range units, const CarriedSums* carried);
    // The units that are on, whatever is known.
    const ChangeLists& fill_ones(const Batch& batch, Index begin, Index end, Range units);
    const ChangeLists& lists() const { return lists_; }
    // Of the last fill: a row is reached from all units, so that their sums are wanted.
    bool wants_all() const { return wants_all_; }
    // Of the last fill_ones: more units are on than off.
    bool mostly_on() const { return mostly_on_; }

    // The sums of all units of a block, of so many inputs.
    void sum_all(const std::int16_t* block, Index inputs, std::int32_t* all);

    // One a thread, kept: strips of lists are larger than malloc keeps at hand, and fresh pages cost more than the
    // sums.
    static ListBuffer& of_this_thread() {
        thread_local ListBuffer buffer;
        return buffer;
    }

  private:
    void reserve(Index rows, Index cols);

    Buffer<std::int32_t> index_, every_;
    Buffer<Index> start_, on_;
    Buffer<From> from_;
    Buffer<std::uint64_t> difference_;
    ChangeLists lists_{};
    bool wants_all_ = false, mostly_on_ = false;
    Index n_every_ = 0;
};

// Rows of real values as lists of those that are not zero.
class ValueListBuffer {
  public:
    // Of rows begin … end − 1 of a batch; units are counted from the first of their range.
    const ValueLists& fill(const Batch& batch, Index begin, Index end, Range units) {
        const Index room = ceil_div(units.end - units.begin, block_width) * block_width;
        std::int32_t* index = index_.reserve((end - begin) * room);
        float* value = value_.reserve((end - begin) * room);
        Index* start = start_.reserve(end - begin + 1);
        start[0] = 0;
        for (Index r = begin; r < end; ++r, ++start)
            start[1] = start[0] +
                       batch.rows.list_values(batch.row(r), units.begin, units.end, index + start[0], value + start[0]);
        lists_ = {index, value, start_.data()};
        return lists_;
    }

    const ValueLists& lists() const { return lists_; }

    static ValueListBuffer& of_this_thread() {
        thread_local ValueListBuffer buffer;
        return buffer;
    }

  private:
    Buffer<std::int32_t> index_;
    Buffer<float> value_;
    Buffer<Index> start_;
    ValueLists lists_{};
};

// Rows of real values as a matrix, and the sums of a strip of them.
class DenseBuffer {
  public:
    // Rows first … first + n − 1 of a batch: where they lie, if they can be read there.
    View<const float> values(const Batch& batch, Index first, Index n) {
        const View<const float> all = batch.order ? View<const float>{} : batch.rows.as_f32();
        if (!all.empty()) return all.row_range(batch.begin + first, batch.begin + first + n);
        const Index cols = batch.rows.cols();
        float* to = values_.reserve(n * cols);
        for (Index r = 0; r < n; ++r) batch.rows.copy_values(batch.row(first + r), to + r * cols);
        return {to, n, cols, cols};
    }
    // Room for a block of n rows' sums.
    float* sums(Index n) { return sums_.reserve(n * block_width); }

    static DenseBuffer& of_this_thread() {
        thread_local DenseBuffer buffer;
        return buffer;
    }

  private:
    Buffer<float> values_, sums_;
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

// f(rows, blocks) on as many threads as the split says.
template <class F>
void deal(const Split& split, Index rows, Index blocks, F&& f) {
    if (split.by_rows > 1)
        parallel_ranges(rows, split.by_rows,
                        [&](Index begin, Index end, int) { f(Range{begin, end}, Range{0, blocks}); });
    else
        parallel_ranges(blocks, split.by_blocks,
                        [&](Index begin, Index end, int) { f(Range{0, rows}, Range{begin, end}); });
}

// The share of units that are on in a trained machine, more or less: all that is known of the work before it is done.
constexpr double usual_density = 0.2;

// How a batch is taken through the machine.
struct Pass {
    int n_threads;
    bool rows_only = false;  // a row's tiles come in order of their blocks, all on one thread
    CarriedSums* carried = nullptr;  // with packed rows: the sums of before, and where those of now are left
    const Temperature* temperature = nullptr;  // of a half-step; null: the machine's own, β = 1
};

inline Split choose_split(const QuantizedMatrix& q, Index n_rows, const Pass& pass) {
    const double work = static_cast<double>(n_rows) * static_cast<double>(q.blocks()) *
                        (16.0 + usual_density * static_cast<double>(q.inputs()));
    return choose_split(n_rows, q.blocks(), work, pass.n_threads, pass.rows_only);
}

// Sums of the selected rows of q for some rows and blocks, tile by tile, on this thread: use(row, rows, block, acc).
template <class Use>
void sum_strips(const QuantizedMatrix& q, const Batch& batch, Range rows, Range blocks, CarriedSums* carried,
                Use&& use) {
    const Kernels& k = kernels();
    ListBuffer& buffer = ListBuffer::of_this_thread();
    alignas(64) std::int32_t local[tile_rows * block_width];
    alignas(64) std::int32_t all[block_width];
    for (Index strip = rows.begin; strip < rows.end; strip += strip_rows) {
        const Index end = std::min(strip + strip_rows, rows.end);
        const ChangeLists& lists = buffer.fill(batch, strip, end, {0, q.inputs()}, carried);
        for (Index block = blocks.begin; block < blocks.end; ++block) {
            if (buffer.wants_all()) buffer.sum_all(q.block(block), q.inputs(), all);
            for (Index row = strip; row < end; row += tile_rows) {
                const Index n = std::min(tile_rows, end - row);
                std::int32_t* acc = carried ? carried->tile(block, row) : local;
                k.change_rows_i16(lists, row - strip, row - strip + n, q.block(block), q.block_cols(block), all, acc);
                use(row, n, block, acc);
            }
        }
    }
}

// The same for all rows and blocks, dealt to threads.
template <class Use>
void for_each_sum(const QuantizedMatrix& q, const Batch& batch, const Pass& pass, Use&& use) {
    deal(choose_split(q, batch.count, pass), batch.count, q.blocks(),
         [&](Range rows, Range blocks) { sum_strips(q, batch, rows, blocks, pass.carried, use); });
    if (pass.carried) pass.carried->set_states(batch);
}

// A tile of integer sums, with what makes pre-activations of them; x is room for those.
inline Tile tile_of(Rbm& rbm, Direction direction, Index row, Index rows, Index block, const std::int32_t* acc,
                    float* x) {
    const QuantizedMatrix& q = rbm.quantized(direction);
    const Index j0 = block * block_width;
    return {row, rows, block, q.block_cols(block), x, acc, q.scale() + j0, rbm.padded_bias(direction) + j0};
}

// Whether sums of selected rows are less work than a dense product: judged by some of the rows.
inline bool mostly_zeros(const Batch& batch) {
    constexpr Index sample = 16;
    Index listed = 0, rows = std::min(sample, batch.count);
    for (Index n = 0; n < rows; ++n) {
        const Index row = n * batch.count / rows;
        ValueListBuffer& buffer = ValueListBuffer::of_this_thread();
        listed += buffer.fill(batch, row, row + 1, {0, batch.rows.cols()}).start[1];
    }
    return 2 * listed < rows * batch.rows.cols();
}

// Calls use(tile) for every tile of the pre-activations of a batch.
template <class Use>
void for_each_tile(Rbm& rbm, Direction direction, const Batch& batch, const Pass& pass, Use&& use) {
    const Kernels& k = kernels();
    const float* bias = rbm.padded_bias(direction);
    if (rbm.takes_integer_path(batch.rows)) {
        const QuantizedMatrix& q = rbm.quantized(direction);
        for_each_sum(q, batch, pass, [&](Index row, Index rows, Index block, const std::int32_t* acc) {
            alignas(64) float x[tile_rows * block_width];
            use(tile_of(rbm, direction, row, rows, block, acc, x));
        });
        return;
    }
    if (direction == Direction::up && mostly_zeros(batch)) {
        // As with bits: strips of rows, blocks of W.
        const View<const float> w = rbm.parameters().w;
        const double work = static_cast<double>(batch.count * w.rows) * static_cast<double>(w.cols) / 100;
        const Index blocks = ceil_div(w.cols, block_width);
        const Split split = choose_split(batch.count, blocks, work, pass.n_threads, pass.rows_only);
        const auto strips = [&](Range rows, Range of) {
            alignas(64) float products[tile_rows * block_width];
            for (Index strip = rows.begin; strip < rows.end; strip += strip_rows) {
                const Index end = std::min(strip + strip_rows, rows.end);
                const ValueLists& lists = ValueListBuffer::of_this_thread().fill(batch, strip, end, {0, w.rows});
                for (Index block = of.begin; block < of.end; ++block)
                    for (Index row = strip; row < end; row += tile_rows) {
                        const Index n = std::min(tile_rows, end - row), j0 = block * block_width;
                        const Index cols = std::min(block_width, w.cols - j0);
                        k.sum_values_f32(lists, row - strip, row - strip + n, {w.data + j0, w.rows, cols, w.stride},
                                         products);
                        k.preactivate_f32({products, n, cols, block_width}, bias + j0, products);
                        use(Tile{row, n, block, cols, products, nullptr, nullptr, nullptr});
                    }
            }
        };
        deal(split, batch.count, blocks, strips);
        return;
    }
    // Real values: strips of rows, blocks of weights, as with bits.
    const View<const float> w = rbm.parameters().w;
    const Index inputs = rbm.inputs(direction), outputs = rbm.outputs(direction);
    const Index blocks = ceil_div(outputs, block_width);
    constexpr double multiplies_per_work = 8;  // as many as take a core as long as adding one of the sums above
    const double work = static_cast<double>(batch.count * inputs) * static_cast<double>(outputs) / multiplies_per_work;
    const auto strips = [&](Range rows, Range of) {
        DenseBuffer& buffer = DenseBuffer::of_this_thread();
        for (Index strip = rows.begin; strip < rows.end; strip += strip_rows) {
            const Index n = std::min(strip_rows, rows.end - strip);
            const View<const float> x = buffer.values(batch, strip, n);
            for (Index block = of.begin; block < of.end; ++block) {
                const Index j0 = block * block_width, cols = std::min(block_width, outputs - j0);
                float* const sums = buffer.sums(n);
                const View<float> y{sums, n, cols, block_width};
                if (direction == Direction::up) {
                    for (Index r = 0; r < n; ++r) std::copy_n(bias + j0, block_width, sums + r * block_width);
                    k.multiply_f32({x.data, x.stride, 1, {w.data + j0, w.rows, cols, w.stride}, y, 1.0f});
                } else {
                    k.multiply_transposed_f32(x, w.row_range(j0, j0 + cols), y);
                    k.preactivate_f32(y, bias + j0, sums);
                }
                for (Index row = 0; row < n; row += tile_rows)
                    use(Tile{strip + row, std::min(tile_rows, n - row), block, cols, sums + row * block_width, nullptr,
                             nullptr, nullptr});
            }
        }
    };
    deal(choose_split(batch.count, blocks, work, pass.n_threads, pass.rows_only), batch.count, blocks, strips);
}

// What a half-step leaves of one tile.
void finish_tile(const Tile& tile, const HalfStep& out);

// The labels of a half-step whose tiles are finished: p = softmax(x), and one unit on in each row, in the place of what
// was drawn for them as if they were units like others.
void draw_labels(const HalfStep& out, Index rows);

}  // namespace harmonium
