#include "model/quantized_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/parallel.hpp"

namespace harmonium {

std::int32_t largest_term(Index terms) {
    return static_cast<std::int32_t>(
        std::min<Index>(32767, std::numeric_limits<std::int32_t>::max() / std::max<Index>(terms, 1)));
}

namespace {

std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

}  // namespace

void QuantizedMatrix::resize(Index inputs, Index outputs) {
    inputs_ = inputs;
    outputs_ = outputs;
    largest_ = largest_term(inputs);
    data_.reserve_zeros(blocks() * inputs * block_width);
    const Index padded = blocks() * block_width;
    std::fill_n(scale_.reserve(padded), padded, 1.0f);
    std::fill_n(inverse_scale_.reserve(padded), padded, 1.0f);
    std::fill_n(largest_bits_.reserve(padded), padded, bits_of(static_cast<float>(largest_)));
}

bool QuantizedMatrix::change_scale(Index output, std::uint32_t max_bits) {
    constexpr std::uint32_t mantissa = one_exponent - 1;
    if (max_bits >= infinity_bits) throw NonFiniteParameters("the weights");
    // The exponents' difference, and one more if the mantissa of the largest integer does not reach.
    const std::uint32_t q_bits = bits_of(static_cast<float>(largest_));
    int e = static_cast<int>(max_bits >> 23) - static_cast<int>(q_bits >> 23);
    if ((max_bits & mantissa) > (q_bits & mantissa)) ++e;
    e = max_bits == 0 ? 0 : std::max(e, -126);
    const float scale = std::ldexp(1.0f, e);
    largest_bits_[output] = q_bits + static_cast<std::uint32_t>(e) * one_exponent;
    if (scale == scale_[output]) return false;
    scale_[output] = scale;
    inverse_scale_[output] = std::ldexp(1.0f, -e);
    return true;
}

void QuantizedMatrix::assign(View<const float> m, int n_threads) {
    resize(m.rows, m.cols);
    const Kernels& k = kernels();
    n_threads = threads_for(static_cast<double>(m.rows) * static_cast<double>(m.cols), n_threads);
    // A thread takes whole blocks of columns: maxima and values need nothing from the others.
    parallel_ranges(blocks(), n_threads, [&](Index begin, Index end, int) {
        for (Index b = begin; b < end; ++b) {
            const Index j0 = b * block_width, cols = block_cols(b);
            const View<const float> columns{m.data + j0, m.rows, cols, m.stride};
            std::uint32_t most[block_width] = {};
            k.column_max_f32(columns, most);
            for (Index j = 0; j < cols; ++j) set_scale(j0 + j, most[j]);
            k.quantize_rows_f32(columns, inverse_scale() + j0, block(b));
        }
    });
}

void QuantizedMatrix::assign_transposed(View<const float> m, int n_threads) {
    resize(m.cols, m.rows);
    const Kernels& k = kernels();
    n_threads = threads_for(static_cast<double>(m.rows) * static_cast<double>(m.cols), n_threads);
    parallel_ranges(ceil_div(m.rows, 8), n_threads, [&](Index begin, Index end, int) {
        for (Index first = begin * 8; first < std::min(end * 8, m.rows); first += 8) {
            for (Index r = first; r < std::min(first + 8, m.rows); ++r) set_scale(r, k.max_abs_f32(m.row(r), m.cols));
            requantize_transposed(m, first);
        }
    });
}

void QuantizedMatrix::requantize_output(View<const float> m, Index output) {
    std::int16_t* q = block(output / block_width) + output % block_width;
    const float factor = inverse_scale_[output];
    // In the default rounding mode nearbyint rounds half to even, as the kernels do.
    for (Index i = 0; i < inputs_; ++i)
        q[i * block_width] = static_cast<std::int16_t>(std::nearbyintf(m(i, output) * factor));
}

void QuantizedMatrix::requantize_transposed(View<const float> m, Index first) {
    const Index rows = std::min<Index>(8, outputs_ - first);
    kernels().quantize_transposed_f32(m.row_range(first, first + rows), inverse_scale() + first,
                                      block(first / block_width) + first % block_width);
}

}  // namespace harmonium
