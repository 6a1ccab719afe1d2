#include "model/enumeration.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.hpp"
#include "kernels/kernels.hpp"
#include "model/memory.hpp"

namespace harmonium {
namespace {

constexpr Index padding = 32;  // of the outputs: whole steps of the kernel, with odds of 0
constexpr double largest_x = 600;  // e^x and 2^10 factors of it stay finite
constexpr Index most_low_units = 12;  // 4096 products, each rounded: 10⁻¹² of the odds

// mantissa·2^exponent, for sums that no double holds.
struct Scaled {
    double mantissa = 0;
    std::int64_t exponent = 0;

    void add(const Scaled& other) {
        if (other.mantissa == 0) return;
        if (mantissa == 0 || other.exponent > exponent) {
            mantissa = scaled(mantissa, exponent - other.exponent) + other.mantissa;
            exponent = other.exponent;
        } else {
            mantissa += scaled(other.mantissa, other.exponent - exponent);
        }
        int by;
        mantissa = std::frexp(mantissa, &by);
        exponent += by;
    }
    static double scaled(double x, std::int64_t by) { return by < -2000 ? 0.0 : std::ldexp(x, static_cast<int>(by)); }
};

}  // namespace

bool Enumeration::fits() const {
    double of_bias = 0;
    for (Index k = 0; k < w.rows; ++k) of_bias += std::fabs(bias[k]);
    if (!(of_bias <= largest_x)) return false;
    for (Index j = 0; j < w.cols; ++j) {
        double x = std::fabs(output_bias[j]);
        for (Index k = 0; k < w.rows; ++k) x += std::fabs(w(k, j));
        if (!(x <= largest_x)) return false;
    }
    return true;
}

Index Enumeration::low_units() const { return std::min(w.rows, most_low_units); }

double Enumeration::log_sum(Index begin, Index end, int n_threads) const {
    const Kernels& kernels = harmonium::kernels();
    const Index low = low_units(), n = ceil_div(w.cols, padding) * padding;
    // How a unit that goes on, or off, multiplies the odds, and exp(bias·s): row 2k, 2k + 1; and row 2·low, which does
    // nothing.
    Buffer<double> ratios((2 * low + 1) * n), weight_ratios(2 * low + 1);
    std::fill_n(ratios.data(), (2 * low + 1) * n, 1.0);
    std::fill_n(weight_ratios.data(), 2 * low + 1, 1.0);
    for (Index k = 0; k < low; ++k) {
        weight_ratios[2 * k] = std::exp(static_cast<double>(bias[k]));
        weight_ratios[2 * k + 1] = std::exp(-static_cast<double>(bias[k]));
    }
    double most = 0;
    for (Index j = 0; j < w.cols; ++j) {
        double x = output_bias[j];
        for (Index k = 0; k < w.rows; ++k) x += std::max(w(k, j), 0.0f);
        most = std::max(most, x);
        for (Index k = 0; k < low; ++k) {
            ratios[2 * k * n + j] = std::exp(static_cast<double>(w(k, j)));
            ratios[(2 * k + 1) * n + j] = std::exp(-static_cast<double>(w(k, j)));
        }
    }
    // So many factors 1 + e^x stay below 2^1000.
    const auto factors = std::max<Index>(1, static_cast<Index>(1000 / (most * 1.4427 + 1)));
    std::vector<Scaled> sums(static_cast<std::size_t>(end - begin));
    const double work = static_cast<double>(end - begin) * std::ldexp(static_cast<double>(n), static_cast<int>(low));
    parallel_ranges(end - begin, threads_for(work, resolve_threads(n_threads)), [&](Index first, Index last, int) {
        Buffer<double> odds(n);
        for (Index piece = first; piece < last; ++piece) {
            const Index high = begin + piece;
            double high_bias = 0;
            std::fill_n(odds.data(), n, 0.0);
            for (Index j = 0; j < w.cols; ++j) {
                double x = output_bias[j];
                for (Index k = low; k < w.rows; ++k)
                    if (high >> (k - low) & 1) x += w(k, j);
                odds[j] = std::exp(x);
            }
            for (Index k = low; k < w.rows; ++k)
                if (high >> (k - low) & 1) high_bias += bias[k];
            double weight = std::exp(high_bias);
            Scaled& sum = sums[static_cast<std::size_t>(piece)];
            // From state to state one unit changes (Gray's code): the one that the lowest bit of its number names.
            Index state = 0;
            for (Index number = 0; number < Index{1} << low; ++number) {
                Index row = 2 * low;
                if (number > 0) {
                    const Index k = __builtin_ctzll(static_cast<unsigned long long>(number));
                    state ^= Index{1} << k;
                    row = 2 * k + !(state >> k & 1);
                }
                weight *= weight_ratios[row];
                Scaled term{1, 0};
                term.mantissa = kernels.step_odds_f64(odds.data(), &ratios[row * n], n, factors, &term.exponent);
                term.mantissa *= weight;
                sum.add(term);
            }
        }
    });
    Scaled total;
    for (const Scaled& sum : sums) total.add(sum);
    return std::log(total.mantissa) + static_cast<double>(total.exponent) * 0.6931471805599453094;
}

}  // namespace harmonium
