// Sums over all states of a few units.
#pragma once

#include "core/view.hpp"

namespace harmonium {

// The units of the side whose states are gone through, at most 62: W is units × outputs.
struct Enumeration {
    View<const float> w;
    const float* bias;  // of the units
    const float* output_bias;

    // Whether e^x and its inverse are finite for every output and state.
    bool fits() const;
    // States are numbered by their bits, unit 0 the lowest; a piece is 2^low_units of them.
    Index low_units() const;
    Index pieces() const { return Index{1} << (w.rows - low_units()); }
    // log Σ exp(bias·s + Σ_j softplus((s·W + output_bias)_j)) over the states s of pieces begin … end − 1, in float64.
    double log_sum(Index begin, Index end, int n_threads) const;
};

}  // namespace harmonium
