// The centred gradient (Montavon & Müller 2012; Melchior, Fischer & Wiskott 2016): that of W with v − μ in place of v
// and h − λ in place of h, on parameters that stay as they are (docs/numerics.md, section 6). What it takes from the
// biases' steps are products of W's step with μ and λ. They come from the rows of both phases, never from W.
#pragma once

#include <vector>

#include "model/cd.hpp"

namespace harmonium {

class Centering {
  public:
    // Off; or with offsets μ of visible and λ of hidden units, which follow the data's means at this rate.
    Centering() = default;
    Centering(float* visible, float* hidden, double rate);
    bool is_on() const { return visible_.moving != nullptr; }

    // Once an update, after its phases: begin, then for each share, then put_together.
    void begin(const ContrastiveDivergence& cd, Index n_visible, Index n_hidden);
    void take_share(const ContrastiveDivergence& cd, double rate, int share);
    void put_together(const ContrastiveDivergence& cd, double rate);

    // Then: what completes the step of W; offsets are as they enter it, hidden ones padded to whole blocks.
    const float* visible_offset() const { return visible_.offset.data(); }
    const float* hidden_offset() const { return hidden_.offset.data(); }
    const float* visible_step() const { return visible_.step.data(); }
    const float* hidden_step() const { return hidden_.step.data(); }
    // And the steps of biases.
    void visible_bias_step(const ContrastiveDivergence& cd, int share, float* step) const;
    void hidden_bias_step(const ContrastiveDivergence& cd, Index block, float* step) const;

  private:
    struct Side {
        float* moving = nullptr;  // the offsets as they follow the data, Python's
        Buffer<float> offset;  // rounded
        Buffer<float> step;  // of the bias, as it would be without centring
        double square = 0;  // of the offsets
        double step_product = 0;  // of offsets and step
        // Offsets times the states or probabilities of a row: data first, then chains. Each share has a part.
        std::vector<Buffer<double>> parts;
        std::vector<double> squares;
        Buffer<double> products;
    };
    void follow(Side& side, Range units, const double* means) const;

    Side visible_, hidden_;
    double rate_ = 0;
    // The factors that make sums over the rows of data and of chains a step: of probabilities, and of states.
    double hidden_factor_[2] = {}, visible_factor_[2] = {};
};

}  // namespace harmonium
