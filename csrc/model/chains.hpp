// Markov chains of an RBM: block Gibbs sampling, chains that are annealed, and replicas at many temperatures that
// exchange their states (docs/numerics.md, section 9).
#pragma once

#include "core/view.hpp"
#include "model/rbm.hpp"

namespace harmonium {

// States of some chains. Probabilities of the last draw of each side are left where the views are not empty.
struct Chains {
    View<std::uint64_t> v, h;
    View<float> v_probabilities, h_probabilities;
};

// Visible units that do not change: where `mask` has a bit they are as in `values`. One row for all chains, or a row
// each; without rows nothing is held.
struct Clamp {
    View<const std::uint64_t> mask, values;

    bool holds() const { return mask.rows > 0; }
    void apply(std::uint64_t* state, Index chain) const;
};

// What the draws of chains depend on: chain n draws as row row0 + n, the first step has the number `step`.
struct ChainDraws {
    std::uint64_t seed, step;
    std::uint32_t row0;
};

// n_steps of block Gibbs sampling. Starting from visible rows each step draws h from v, then v from h, and the states
// of both are left in the chains; starting from hidden states (h as found) each step draws v from h, then h from v.
void gibbs_from_visible(Rbm& rbm, const Batch& start, Index n_steps, const ChainDraws& draws, const Chains& chains,
                        const Clamp& clamp);
void gibbs_from_hidden(Rbm& rbm, Index n_steps, const ChainDraws& draws, const Chains& chains, const Clamp& clamp);

// Inverse temperatures, and the biases of the visible units at β = 0 (Temperature).
struct Path {
    const float* base_bias;
    const double* betas;
    Index count;
};

// Visible states, drawn at the first temperature, go from each to the next, in any direction: log_weights[n] takes
// log p*(v) at the next minus that at this one, p*(v) = Σ_h exp(−E_β(v, h)), and then one Gibbs step is made there. One
// step a temperature but for the first.
void anneal(Rbm& rbm, const Path& path, const ChainDraws& draws, View<std::uint64_t> v, View<std::uint64_t> h,
            const Clamp& clamp, double* log_weights);

// Replicas: as many chains at each temperature, [temperature][chain]. Each round makes a Gibbs step from h in all of
// them but those of the first `resting` temperatures, whose v and h are what somebody else drew; then neighbours
// exchange states (v, h), those of even and of odd places by turns, with probability min(1, exp((β_k −
// β_{k+1})·(U_{k+1} − U_k))), U = (b − b₀)·v + c·h + vᵀWh. `exchanges`, two rows of path.count − 1,
// count for each k how often it exchanged with k + 1, and how often that was tried.
void temper(Rbm& rbm, const Path& path, Index n_rounds, Index resting, const ChainDraws& draws, View<std::uint64_t> v,
            View<std::uint64_t> h, const Clamp& clamp, View<std::int64_t> exchanges);

}  // namespace harmonium
