#include "model/fast_weights.hpp"

#include <algorithm>

namespace harmonium {

FastWeights::FastWeights(const Parameters& slow, const Parameters& fast, double rate, double decay, Precision precision,
                         int n_threads, Index n_labels)
    : slow_(slow),
      fast_(fast),
      rate_(rate),
      decay_(static_cast<float>(decay)),
      machine_(sum(), precision, n_threads, n_labels) {}

Parameters FastWeights::sum() {
    const Index n_visible = slow_.w.rows, n_hidden = slow_.w.cols;
    // Rows of whole cache lines.
    const Index stride = ceil_div(n_hidden, 16) * 16;
    const Parameters all{
        {w_.reserve(n_visible * stride), n_visible, n_hidden, stride}, b_.reserve(n_visible), c_.reserve(n_hidden)};
    const auto add = [](const float* a, const float* b, Index n, float* to) {
        for (Index i = 0; i < n; ++i) to[i] = a[i] + b[i];
    };
    for (Index i = 0; i < n_visible; ++i) add(slow_.w.row(i), fast_.w.row(i), n_hidden, all.w.row(i));
    add(slow_.b, fast_.b, n_visible, all.b);
    add(slow_.c, fast_.c, n_hidden, all.c);
    return all;
}

void FastWeights::follow(const float* slow, float* fast, const float* step, Index n, float* sum) const {
    for (Index i = 0; i < n; ++i) {
        fast[i] = fast[i] * decay_ + step[i];
        sum[i] = slow[i] + fast[i];
    }
}

bool FastWeights::update(ContrastiveDivergence& cd) {
    const Parameters& total = machine_.parameters();
    const Index n_hidden = slow_.w.cols, n_blocks = ceil_div(n_hidden, block_width);
    cd.begin_weight_steps(rate_, machine_.n_threads());
    float* const b_step = b_step_.reserve(slow_.w.rows);
    cd.shares().for_each([&](int share) {
        const Range units = cd.shares().units(share);
        alignas(64) float step[tile_units * step_blocks * block_width];
        for (Index first = units.begin; first < units.end; first += tile_units) {
            const Index last = std::min(first + tile_units, units.end);
            for (Index block = 0; block < n_blocks; block += step_blocks) {
                const Range some{block, std::min(block + step_blocks, n_blocks)};
                cd.weight_step(share, first, last, first_bits(last - first), some, step);
                for (Index b = some.begin; b < some.end; ++b)
                    for (Index i = first; i < last; ++i) {
                        const Index j0 = b * block_width, n = std::min(block_width, n_hidden - j0);
                        const float* row = step + ((b - block) * tile_units + i - first) * block_width;
                        follow(slow_.w.row(i) + j0, fast_.w.row(i) + j0, row, n, total.w.row(i) + j0);
                    }
            }
        }
        cd.visible_bias_step(rate_, share, b_step + units.begin);
        follow(slow_.b + units.begin, fast_.b + units.begin, b_step + units.begin, units.end - units.begin,
               total.b + units.begin);
        const Range mine = cd.shares().dealt(share, n_blocks);
        for (Index block = mine.begin; block < mine.end; ++block) {
            const Index j0 = block * block_width;
            cd.hidden_bias_step(rate_, block, step);
            follow(slow_.c + j0, fast_.c + j0, step, std::min(block_width, n_hidden - j0), total.c + j0);
        }
    });
    std::uint32_t most =
        std::max(kernels().max_abs_f32(total.b, slow_.w.rows), kernels().max_abs_f32(total.c, n_hidden));
    for (Index i = 0; i < slow_.w.rows; ++i) most = std::max(most, kernels().max_abs_f32(total.w.row(i), n_hidden));
    if (most >= infinity_bits) return false;
    machine_.renew();
    return true;
}

}  // namespace harmonium
