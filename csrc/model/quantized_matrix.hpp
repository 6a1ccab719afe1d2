// A matrix in 16 bits for products with binary rows (docs/numerics.md, section 3).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/view.hpp"
#include "kernels/kernels.hpp"
#include "model/memory.hpp"

namespace harmonium {

// Parameters that are infinite or not a number, where the integer path has no form for them.
struct NonFiniteParameters : std::domain_error {
    explicit NonFiniteParameters(const std::string& which)
        : std::domain_error(which + " hold values that are infinite or not a number") {}
};

// The largest integer a term may take so that `terms` of them cannot overflow int32.
std::int32_t largest_term(Index terms);

// K inputs × N outputs. Stored as blocks of 64 outputs, [block][input][64], so that a sum of selected rows stays within
// one block that fits the second-level cache. Outputs past N are zeros.
class QuantizedMatrix {
  public:
    void resize(Index inputs, Index outputs);

    Index inputs() const { return inputs_; }
    Index outputs() const { return outputs_; }
    Index blocks() const { return ceil_div(outputs_, block_width); }
    std::int16_t* block(Index b) const { return data_.data() + b * inputs_ * block_width; }
    // Columns of block b that are not padding.
    Index block_cols(Index b) const { return std::min(block_width, outputs_ - b * block_width); }
    // Per output; 64 · blocks() of them.
    const float* scale() const { return scale_.data(); }
    const float* inverse_scale() const { return inverse_scale_.data(); }

    // Sets output j's scale to hold magnitudes up to the float with these bits; true if that changed it. Every update
    // asks for every output, and almost always the scale is the right one already.
    bool set_scale(Index output, std::uint32_t max_bits) {
        const bool is_right = max_bits < infinity_bits && largest_bits_[output] - max_bits < one_exponent;
        return !is_right && change_scale(output, max_bits);
    }

    // Everything from m (K × N), or from the transpose of m (N × K).
    void assign(View<const float> m, int n_threads);
    void assign_transposed(View<const float> m, int n_threads);
    // One output again, from column `output` of m, after its scale changed.
    void requantize_output(View<const float> m, Index output);
    // Eight outputs from `first` (a multiple of 8) again, from rows of the N × K matrix m.
    void requantize_transposed(View<const float> m, Index first);

  private:
    static constexpr std::uint32_t one_exponent = 1u << 23;  // between the bits of x and of 2x
    bool change_scale(Index output, std::uint32_t max_bits);

    Index inputs_ = 0, outputs_ = 0;
    std::int32_t largest_ = 0;
    Buffer<std::int16_t> data_;
    Buffer<float> scale_, inverse_scale_;
    // Of the largest magnitude that each scale holds, half of which the next smaller one does: as the bits of a float,
    // counted on where there is no such float.
    Buffer<std::uint32_t> largest_bits_;
};

}  // namespace harmonium
