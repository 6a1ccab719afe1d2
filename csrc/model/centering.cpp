#include "model/centering.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace harmonium {
namespace {

// Offsets enter as multiples of this: products with them are exact.
constexpr double one = 1 << 15;

}  // namespace

Centering::Centering(float* visible, float* hidden, double rate) : rate_(rate) {
    visible_.moving = visible;
    hidden_.moving = hidden;
}

void Centering::begin(const ContrastiveDivergence& cd, Index n_visible, Index n_hidden) {
    const auto shares = static_cast<std::size_t>(cd.shares().count());
    const Index rows = cd.positive().rows() + cd.negative().rows();
    const auto prepare = [&](Side& side, Index n) {
        const Index padded = ceil_div(n, block_width) * block_width;
        side.offset.reserve_zeros(padded);
        side.step.reserve(padded);
        side.products.reserve_zeros(rows);
        side.parts.resize(shares);
        side.squares.assign(shares, 0);
        for (Buffer<double>& part : side.parts) part.reserve_zeros(rows);
    };
    prepare(visible_, n_visible);
    prepare(hidden_, n_hidden);
}

void Centering::follow(Side& side, Range units, const double* means) const {
    for (Index u = units.begin; u < units.end; ++u) {
        const double before = static_cast<double>(side.moving[u]);
        side.moving[u] = static_cast<float>((1 - rate_) * before + rate_ * means[u - units.begin]);
        side.offset[u] = static_cast<float>(std::nearbyint(static_cast<double>(side.moving[u]) * one) / one);
    }
}

void Centering::take_share(const ContrastiveDivergence& cd, double rate, int share) {
    const Phase &positive = cd.positive(), &negative = cd.negative();
    const auto square = [](double sum, float x) { return sum + static_cast<double>(x) * static_cast<double>(x); };
    const Range units = cd.shares().units(share);
    const auto s = static_cast<std::size_t>(share);

    std::vector<double> means(static_cast<std::size_t>(units.end - units.begin));
    std::vector<double> weights(static_cast<std::size_t>(positive.rows()));
    for (Index n = 0; n < positive.rows(); ++n) weights[static_cast<std::size_t>(n)] = positive.row_weight(n);
    positive.add_visible_sums(share, weights.data(), means.data());
    for (double& mean : means) mean /= positive.visible_weight();
    follow(visible_, units, means.data());
    cd.visible_bias_step(rate, share, &visible_.step[units.begin]);
    const float* mu = &visible_.offset[units.begin];
    visible_.squares[s] = std::accumulate(mu, mu + (units.end - units.begin), 0.0, square);
    positive.add_visible_products(share, mu, visible_.parts[s].data());
    negative.add_visible_products(share, mu, visible_.parts[s].data() + positive.rows());

    const Range mine = cd.shares().dealt(share, cd.hidden_blocks());
    for (Index block = mine.begin; block < mine.end; ++block) {
        const Range hidden = cd.hidden_units(block);
        double block_means[block_width];
        cd.hidden_means(block, block_means);
        follow(hidden_, hidden, block_means);
        cd.hidden_bias_step(rate, block, &hidden_.step[hidden.begin]);
        const float* lambda = &hidden_.offset[hidden.begin];
        hidden_.squares[s] = std::accumulate(lambda, lambda + (hidden.end - hidden.begin), hidden_.squares[s], square);
        positive.add_hidden_products(block, lambda, hidden_.parts[s].data());
        negative.add_hidden_products(block, lambda, hidden_.parts[s].data() + positive.rows());
    }
}

void Centering::put_together(const ContrastiveDivergence& cd, double rate) {
    const Phase* phases[] = {&cd.positive(), &cd.negative()};
    for (int phase = 0; phase < 2; ++phase) {
        const double sign = phase == 0 ? 1 : -1;
        hidden_factor_[phase] = sign * rate / phases[phase]->weight();
        visible_factor_[phase] = sign * rate / phases[phase]->visible_weight();
    }
    const Index n_data = phases[0]->rows(), rows = n_data + phases[1]->rows();
    // Hidden units' products hold the weights of their rows already.
    const auto weight_of = [&](const Side& side, Index n) {
        return &side == &visible_ ? phases[0]->row_weight(n) : 1.0;
    };
    const auto complete = [&](Side& side, const double* factor) {
        for (const Buffer<double>& part : side.parts)
            for (Index n = 0; n < rows; ++n) side.products[n] += part[n];
        side.square = std::accumulate(side.squares.begin(), side.squares.end(), 0.0);
        const double* p = side.products.data();
        const double chains = std::accumulate(p + n_data, p + rows, 0.0);
        double data = 0;
        for (Index n = 0; n < n_data; ++n) data += weight_of(side, n) * p[n];
        side.step_product = data * factor[0] + chains * factor[1];
    };
    complete(visible_, visible_factor_);
    complete(hidden_, hidden_factor_);
}

void Centering::visible_bias_step(const ContrastiveDivergence& cd, int share, float* step) const {
    const Range units = cd.shares().units(share);
    const auto n = static_cast<std::size_t>(units.end - units.begin);
    std::vector<double> data(n), chains(n);
    cd.positive().add_visible_sums(share, hidden_.products.data(), data.data());
    cd.negative().add_visible_sums(share, hidden_.products.data() + cd.positive().rows(), chains.data());
    for (std::size_t i = 0; i < n; ++i) {
        const Index unit = units.begin + static_cast<Index>(i);
        const double mu = static_cast<double>(visible_.offset[unit]), plain = static_cast<double>(visible_.step[unit]);
        const double product = data[i] * hidden_factor_[0] + chains[i] * hidden_factor_[1];
        step[i] = static_cast<float>(plain - ((product - mu * hidden_.step_product) - plain * hidden_.square));
    }
}

void Centering::hidden_bias_step(const ContrastiveDivergence& cd, Index block, float* step) const {
    double data[block_width] = {}, chains[block_width] = {};
    cd.positive().add_hidden_sums(block, visible_.products.data(), data);
    cd.negative().add_hidden_sums(block, visible_.products.data() + cd.positive().rows(), chains);
    const Range units = cd.hidden_units(block);
    for (Index j = 0; j < units.end - units.begin; ++j) {
        const Index unit = units.begin + j;
        const double lambda = static_cast<double>(hidden_.offset[unit]),
                     plain = static_cast<double>(hidden_.step[unit]);
        const double product = data[j] * hidden_factor_[0] + chains[j] * hidden_factor_[1];
        step[j] = static_cast<float>(plain - ((product - lambda * visible_.step_product) - plain * visible_.square));
    }
}

}  // namespace harmonium
