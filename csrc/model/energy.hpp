// What energies are summed by.
#pragma once

#include "core/view.hpp"

namespace harmonium {

// A softplus sum of hidden units is kept in so many lanes, unit j in lane j mod 16 (docs/numerics.md, section 5).
constexpr Index sum_lanes = 16;

inline double add_lanes(const double* sums) {
    double total = 0;
    for (Index lane = 0; lane < sum_lanes; ++lane) total += sums[lane];
    return total;
}

}  // namespace harmonium
