// Contrastive divergence: the statistics of one minibatch and its chains, and the step they ask for
// (docs/numerics.md, section 6).
#pragma once

#include "model/products.hpp"
#include "model/rbm.hpp"

namespace harmonium {

struct CdOptions {
    Index n_gibbs_steps = 1;
    bool persistent = true;  // chains start from the hidden states given; else from the data
    std::uint64_t seed = 0;
    std::uint64_t step = 0;  // number of the first Gibbs step
};

// The visible units and hidden probabilities of one phase, in the form the step wants them.
class Phase {
  public:
    // p(h|v) of a batch, kept; `out` may ask for drawn states besides.
    void run(Rbm& rbm, const Batch& visible, HalfStep out);

    bool is_integer() const { return is_integer_; }
    // Σ_n v_ni and Σ_n p_nj times what makes them means times `rate`.
    void mean_visible(double rate, float* out) const;
    void mean_hidden(double rate, float* out) const;
    // What makes an integer sum a mean times `rate`.
    float factor(double rate) const;
    // Integer path: no row has any of the units first … last − 1 on.
    bool is_silent(Index first, Index last) const { return start_[first] == start_[last]; }
    // Integer path: Σ_n v_ni·P_nj for units first … last − 1 and one block of hidden units.
    void sum_tile(Index first, Index last, Index block, std::int32_t* acc) const;
    // Float32 path: step = alpha·vᵀp + beta·step.
    void add_product(float alpha, float beta, View<float> step, int n_threads) const;

  private:
    void transpose(const Batch& visible);

    Index rows_ = 0, n_visible_ = 0, n_hidden_ = 0;
    bool is_integer_ = true;
    std::int32_t largest_ = 0;
    // Integer path: probabilities as integers, [block][row][64], and the rows each visible unit is on in.
    Buffer<std::int16_t> fixed_;
    Buffer<std::int32_t> index_, ones_;
    Buffer<Index> start_, next_;
    // Float32 path: the same as matrices.
    Buffer<float> probabilities_, visible_;
};

constexpr Index tile_units = 8;  // visible units whose weights are updated together: one 8 × 8 transpose high

class ContrastiveDivergence {
  public:
    // Infinite biases have no gradient, and NaN none that would show: throws NonFiniteParameters.
    static void require_finite_biases(const Rbm& rbm);
    // Runs both phases. `chains` holds the hidden states, one row a chain; with CD it is only written.
    void run(Rbm& rbm, const Batch& data, View<std::uint64_t> chains, const CdOptions& options);

    // Then, the whole gradient:
    void gradient(View<float> w, float* b, float* c, int n_threads);
    // or the step at learning rate `rate`, piece by piece. For the biases:
    void bias_steps(double rate, float* b_step, float* c_step);
    // For W, after begin_weight_steps, from any thread: step[8][64] of visible units first … last − 1 (at most
    // tile_units) and one block of hidden units; is_silent tells that it would be zero.
    void begin_weight_steps(double rate, int n_threads);
    void weight_step(Index first, Index last, Index block, float* step) const;
    bool is_silent(Index first, Index last) const {
        return positive_.is_integer() && positive_.is_silent(first, last) && negative_.is_silent(first, last);
    }

  private:
    Phase positive_, negative_;
    Index n_visible_ = 0, n_hidden_ = 0;
    float a_positive_ = 0, a_negative_ = 0;
    Buffer<std::uint64_t> visible_states_;
    Buffer<float> bias_step_;
    Buffer<float> dense_step_;
    View<float> dense_;  // n_visible × n_hidden: the float32 path's part of the step
};

}  // namespace harmonium
