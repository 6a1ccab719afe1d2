// The leaf loops, as a table of function pointers: one table per instruction set, all with the same contracts and,
// for the same inputs, the same bits. docs/numerics.md defines what is computed.
//
// A kernel is serial, allocates nothing, throws nothing, keeps no state and checks nothing. "Block" means 64 columns,
// the width in which weights are stored and states are sampled: one word of bits, two cache lines of int16.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/view.hpp"
#include "rng/philox.hpp"

namespace harmonium {

constexpr Index block_width = 64;
// A bit for each of the first n < 32.
constexpr std::uint32_t first_bits(Index n) { return (1u << n) - 1; }

constexpr std::uint32_t infinity_bits = 0x7f800000u;  // magnitudes with these bits or more are not finite

// Rows given as lists of their active columns: those of row r are index[start[r]] … index[start[r + 1] - 1], ascending.
struct ActiveLists {
    const std::int32_t* index;
    const Index* start;
};

// What the sums of a row are reached from.
enum class From : std::uint8_t {
    none,  // all units off: sums of zero
    last,  // the units of before, whose sums are known
    all,  // all units on
};

// Rows given as their difference from such states: index[start[2r]] … index[start[2r + 1] − 1] went on, from there to
// index[start[2r + 2] − 1] went off.
struct ChangeLists {
    const std::int32_t* index;
    const Index* start;
    const From* from;
};

// Rows given by their columns that are not zero: those of row r are index[start[r]] … index[start[r + 1] − 1],
// ascending, and have these values.
struct ValueLists {
    const std::int32_t* index;
    const float* value;
    const Index* start;
};

// What a scan of values found; combined by "or".
enum ScanFlag : std::uint32_t {
    scan_not_binary = 1,  // some value is neither 0 nor 1
    scan_out_of_range = 2,  // some value is below 0, above 1, or not a number
};

// Coefficients of one update (docs/numerics.md, section 6.4).
struct UpdateRule {
    float momentum = 0;
    float l1 = 0;  // ε·λ₁
    float l2 = 0;  // ε·λ₂
    bool use_momentum = false;
    bool is_centered = false;
    // The step is rate·g/(√s + epsilon), s a moving average of squares of the gradient and g one of it, or with no
    // array for that the gradient itself.
    bool adapts = false;
    float beta1 = 0, beta2 = 0;
    float rest1 = 0, rest2 = 0;  // 1 − β, rounded once
    float rate = 0, epsilon = 0;

    // Weights without a step too.
    bool moves_all() const { return use_momentum || is_centered || adapts || l1 != 0 || l2 != 0; }
};

// Where some of W lies, up to eight rows of any number of blocks of columns, and where what is rounded of it goes;
// without them, `up` is null, and neither scales nor column maxima are used.
struct UpdateTile {
    float* w;  // row r at w + r·w_stride
    Index w_stride;
    float* velocity;  // or averages of the gradient; null without momentum
    Index velocity_stride;
    float* square;  // averages of its squares, where steps adapt
    Index square_stride;
    const float* gradient;  // the step d before decay: [block][8][64]
    // With a centred gradient: what is taken from it, row_offset·col_step and row_step·col_offset.
    const float *row_offset, *row_step;
    const float *col_offset, *col_step;
    Index rows;  // 1 … 8
    std::uint32_t moving;  // a bit for each that has a step; for all of them where the rule moves all
    Index cols;  // 1 or more; they end in the last block
    std::int16_t* up;  // row r at up + r·64
    Index up_stride;  // from block to block
    std::int16_t* down;  // row r at down + r·down_stride, yet to be transposed
    Index down_stride;
    const float* up_inverse_scale;  // of the columns, to the end of the last block
    const float* down_inverse_scale;  // 8
    std::uint32_t* col_max;  // all written, to the end of the last block: the largest |w| of each column, as float bits
    std::uint32_t* row_max;  // a row's is raised to its largest |w|, where that is larger
};

// The statistics behind some of the step: rows of probabilities, those of the negative phase negated, in blocks 64
// wide, selected by lists, one a visible unit.
struct CdTile {
    ActiveLists rows;
    const Index* middle;  // where those of the negative phase begin in each list; null where both have one factor
    const std::int16_t* p;  // the first block
    Index stride;  // from block to block
    float a_positive, a_negative;
};

// Updates that W has not taken yet, of as many rows each, an even number: what they add to the sums of a block of
// hidden units,
struct HiddenCorrection {
    Index updates, rows;
    Index stride;  // from the weights of a row of x to those of the next
    float factor;
    const std::int16_t* p;  // rows of 64
};
// and of visible ones.
struct VisibleCorrection {
    Index updates, rows;
    Index stride;
    float factor;
    const std::uint64_t* words;
    Index words_stride;
};

// c = keep·c + a·b in float32, where a[i][k] lies at a[i·a_row + k·a_col]: as it is, or transposed.
struct Product {
    const float* a;
    Index a_row, a_col;
    View<const float> b;
    View<float> c;
    float keep;
};

// Adam's step (Kingma & Ba 2015, algorithm 1), the corrections for the moments' start already in `rate` and `epsilon`.
struct AdamRule {
    float beta1, beta2;
    float rest1, rest2;  // 1 − β, rounded once
    float rate, epsilon;
    float decay;  // added to the gradient, times w
};

// Some rows of a matrix, each with a factor.
template <class T>
struct WeightedRows {
    const std::int32_t* index;
    const T* weight;
    Index count;
    T* rows;
    Index stride;
};

struct Kernels {
    // ---- bits.inc: states as bits ----
    // Positions of the ones of a row, ascending; returns how many. `out` has room for n rounded up to 64: places past
    // the last one are written too.
    Index (*list_ones_bits)(const std::uint64_t* words, Index n, std::int32_t* out);
    Index (*list_ones_bytes)(const std::uint8_t* bytes, Index n, std::int32_t* out);
    // How many bits are set in some words; and how many differ between two.
    Index (*count_ones)(const std::uint64_t* words, Index n_words);
    Index (*count_changes)(const std::uint64_t* a, const std::uint64_t* b, Index n_words);
    // Packs n values (one row) into ceil(n / 64) words, bit j % 64 of word j / 64 set where value j is not 0, the bits
    // past n clear. Returns scan flags.
    std::uint32_t (*pack_bytes)(const std::uint8_t* bytes, Index n, std::uint64_t* words);
    std::uint32_t (*pack_f32)(const float* values, Index n, std::uint64_t* words);
    std::uint32_t (*pack_f64)(const double* values, Index n, std::uint64_t* words);
    // Bits to 0/1 bytes or floats, n of them.
    void (*unpack_bytes)(const std::uint64_t* words, Index n, std::uint8_t* bytes);
    void (*unpack_f32)(const std::uint64_t* words, Index n, float* values);

    // Values without a bit become 0, the others are multiplied by `scale`.
    void (*mask_f32)(const std::uint64_t* words, Index n, float scale, float* values);

    // Positions and values of what is not zero in a row; returns how many. Room for n rounded up to 16.
    Index (*list_values_f32)(const float* values, Index n, std::int32_t* index, float* out);

    // ---- activation.inc: elementwise functions; in and out may be the same array ----
    void (*sigmoid_f32)(const float* x, Index n, float* out);
    void (*sigmoid_f64)(const double* x, Index n, double* out);
    void (*softplus_f32)(const float* x, Index n, float* out);
    // e^x, infinite from 87.3365 on.
    void (*exp_f32)(const float* x, Index n, float* out);
    // d[i] *= y[i]·(1 − keep·y[i]): the slope of σ where y is its value, multiplied by 1/keep or by zero (dropout).
    void (*multiply_by_slope_f32)(const float* y, Index n, float keep, float* d);
    // x becomes softmax(x); returns log Σ exp(x).
    float (*softmax_f32)(float* x, Index n);
    // x[r][j] = float(acc[r][j])·scale[j] + bias[j] over rows of one block; both 64 wide.
    void (*preactivate_i32)(const std::int32_t* acc, Index rows, const float* scale, const float* bias, float* x);
    // The same from a float32 product of up to 64 columns: x[r][j] = products[r][j] + bias[j], 0 past its columns.
    void (*preactivate_f32)(View<const float> products, const float* bias, float* x);
    // sums[r][j % 16] += softplus(x[r][j]) over the first `cols` ≤ 64 columns of a 64-wide block, in order of j.
    void (*add_softplus_f32)(const float* x, Index rows, Index cols, double* sums);
    // Fixed point: out[i] = round(p[i]·factor), for factors of up to ±32767.
    void (*fix_probabilities)(const float* p, Index n, float factor, std::int16_t* out);

    // ---- energy.inc: differences of free energies ----
    // Π (q[j] + p[j]·e[j]) over n values, a multiple of 64: what is returned, m ≥ 1, times 2 to the power of what is
    // added to *exponent. No product of run / 64 such factors, `run` a multiple of 64, may overflow or be subnormal.
    float (*multiply_ratios_f32)(const float* p, const float* q, const float* e, Index n, Index run,
                                 std::int64_t* exponent);
    // For rows of 64 pre-activations x at β = 1, what going from β to β + δ adds to Σ softplus(x·β), in lanes j % 16:
    // either that is added to a row's sums, or, where all |x·δ| ≤ 1/32, its quotient by δ to the slopes.
    void (*change_temperature_f32)(const float* x, Index rows, float beta, float delta, double* slopes, double* sums);
    // Σ values[j] over the bits that are set, in lanes j % 16; room for n rounded up to 64, zeros past n.
    double (*sum_selected_f64)(const std::uint64_t* words, Index n, const double* values);

    // ---- bernoulli.inc: draws ----
    // Bits of rows × blocks: unit first_unit + j of row row0 + r is 1 iff its number is below p[r][j]. first_unit is a
    // multiple of 64; p has cols columns; words beyond cols are cleared to the end of the last word.
    void (*draw_bits_f32)(View<const float> p, rng::Draw draw, std::uint32_t row0, Index first_unit,
                          View<std::uint64_t> words);

    // The same from integer sums, of which σ(acc[r][j]·scale[j] + bias[j]) would be p: one block, `cols` of its
    // columns.
    void (*draw_sums_i32)(const std::int32_t* acc, Index cols, const float* scale, const float* bias, rng::Draw draw,
                          std::uint32_t row0, Index first_unit, View<std::uint64_t> words);

    // The same from pre-activations, rows of 64.
    void (*draw_logits_f32)(const float* x, Index cols, rng::Draw draw, std::uint32_t row0, Index first_unit,
                            View<std::uint64_t> words);

    // ---- rowsum.inc: products with a binary operand ----
    // acc[r][0…63] = Σ block[i][0…63] over the active i of rows begin ≤ r < end; acc starts at row `begin`.
    void (*sum_rows_i16)(ActiveLists rows, Index begin, Index end, const std::int16_t* block, std::int32_t* acc);
    // The same from other sums: those of before, which acc then holds, or those of all units, all[64], which is read
    // where a row asks for it alone. Columns from `cols` on are padding and may be left as zeros.
    void (*change_rows_i16)(ChangeLists rows, Index begin, Index end, const std::int16_t* block, Index cols,
                            const std::int32_t* all, std::int32_t* acc);
    // out[r][0…63] = Σ value·block[i][0…63] over what is not zero in rows begin ≤ r < end; out starts at row `begin`,
    // and is zero past the block's columns.
    void (*sum_values_f32)(ValueLists rows, Index begin, Index end, View<const float> block, float* out);

    // ---- quantize.inc: 16-bit weights ----
    // max_bits[j] = max(max_bits[j], bits of |m[r][j]|) over the rows of m.
    void (*column_max_f32)(View<const float> m, std::uint32_t* max_bits);
    // The same over maxima already taken.
    void (*column_max_u32)(View<const std::uint32_t> bits, std::uint32_t* max_bits);
    // Largest bits of |values|.
    std::uint32_t (*max_abs_f32)(const float* values, Index n);
    // q[r][j] = round(m[r][j]·inverse_scale[j]) for up to 64 columns, rows of q 64 apart, the rest of a row zero.
    void (*quantize_rows_f32)(View<const float> m, const float* inverse_scale, std::int16_t* q);
    // Columns of eight rows, for some eights of rows: to[j·64 + 8t + r] = from[(8t + r)·stride + j] where bit t is set.
    void (*transpose_eights)(const std::int16_t* from, Index stride, std::uint32_t eights, Index cols,
                             std::int16_t* to);
    // q[j][r] = round(m[r][j]·inverse_scale[r]) for up to eight rows of m and any number of columns; row j of q at
    // q + j·64. Eight values of a row are written, those past m's rows as zeros.
    void (*quantize_transposed_f32)(View<const float> m, const float* inverse_scale, std::int16_t* q);

    // ---- update.inc: the pass over W ----
    // out[block][r][j] = float(Σ p[n][j])·a_positive over the rows n listed for unit r; or, with a middle, over those
    // before it, and those after it times a_negative added. For the units, of eight, that have a bit.
    void (*cd_step_i16)(const CdTile& tile, std::uint32_t units, Index blocks, float* out);
    // sums[j] = Σ p[r][j] over all rows of one block, 64 wide.
    void (*sum_all_rows_i16)(const std::int16_t* p, Index rows, std::int32_t* sums);
    // out[i] = g[i]·a_pos + float(neg[i])·a_neg: a float32 positive phase with an integer negative one.
    void (*add_phases_f32)(const float* g, const std::int32_t* neg, Index n, float a_pos, float a_neg, float* out);
    void (*update_tiles)(const UpdateTile& tile, const UpdateRule& rule);
    // The same for a vector without centring and decay (the biases); `step` becomes what is added.
    void (*update_vector)(float* values, float* velocity, float* square, float* step, Index n, const UpdateRule& rule);

    // ---- pending.inc: products corrected by updates that W has not taken ----
    // counts[r] = units that are on both in a and in row r: fewer than 2¹⁵.
    void (*count_common)(const std::uint64_t* a, View<const std::uint64_t> rows, std::int16_t* counts);
    // x[n][j] += Σ over updates of float(Σ weight[n][r]·p[r][j] over the update's rows r)·factor, for a block of hidden
    // units and n rows of x, 64 apart.
    void (*correct_hidden)(const HiddenCorrection& by, const std::int16_t* weight, Index n, float* x);
    // x[n][i] += Σ over updates of float(Σ weight[n][r] over the update's rows r in which unit i is on)·factor.
    void (*correct_visible)(const VisibleCorrection& by, const std::int32_t* weight, Index n, float* x);

    // ---- dense.inc: products of real matrices; not the same bits on every level ----
    void (*multiply_f32)(const Product& product);
    // c = a·bᵀ
    void (*multiply_transposed_f32)(View<const float> a, View<const float> b, View<float> c);

    // ---- optimizer.inc: steps along a gradient ----
    // sums[j] = keep·sums[j] + Σ m[r][j] over the rows of m.
    void (*add_rows_f32)(View<const float> m, float keep, float* sums);
    // v −= decay·w, then w += v.
    void (*step_momentum_f32)(float* w, float* velocity, Index n, float decay);
    void (*step_adam_f32)(float* w, const float* gradient, float* first, float* second, Index n, const AdamRule& rule);
    // average[i] += (w[i] − average[i])·rate
    void (*average_f32)(const float* w, Index n, float rate, float* average);
    // sums[j] += m[r][j]² over the rows of m; and m[r][j] *= factor[j].
    void (*add_squares_f32)(View<const float> m, float* sums);
    void (*scale_columns_f32)(const float* factor, View<float> m);

    // ---- sequential.inc: the n weights of one visible unit; not the same bits on every level ----
    // w += (Σ weight·row over the positive terms − the same over the negative ones)·rate.
    void (*step_unit_f32)(float* w, Index n, const WeightedRows<float>& positive, const WeightedRows<float>& negative,
                          float rate);
    void (*step_unit_f64)(double* w, Index n, const WeightedRows<double>& positive,
                          const WeightedRows<double>& negative, double rate);
    // row += weight·w for all rows named.
    void (*spread_unit_f32)(const float* w, Index n, const WeightedRows<float>& to);
    void (*spread_unit_f64)(const double* w, Index n, const WeightedRows<double>& to);
    // x[r] = w·h[r]
    void (*multiply_unit_f32)(const float* w, View<const float> h, float* x);
    void (*multiply_unit_f64)(const double* w, View<const double> h, double* x);

    // ---- enumeration.inc: sums over all states; not the same bits on every level ----
    // y[j] *= ratio[j] for n values, a multiple of 32. Returns a number m ≥ 1 and adds to *exponent: m·2^that is
    // Π (1 + y[j]). So many factors may be multiplied before a product could overflow.
    double (*step_odds_f64)(double* y, const double* ratio, Index n, Index factors, std::int64_t* exponent);
};

// The table of the level in use, or of a given one.
const Kernels& kernels();
const Kernels& kernels(Isa isa);

namespace baseline {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}

}  // namespace harmonium
