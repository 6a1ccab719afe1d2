// Parameters that learn fast and forget fast, added to those of the machine whose chains are run, and to no other
// (docs/numerics.md, section 6; Tieleman & Hinton 2009).
#pragma once

#include "model/cd.hpp"

namespace harmonium {

class FastWeights {
  public:
    // `slow` are the machine's own parameters, `fast` what is added; both somebody else's.
    FastWeights(const Parameters& slow, const Parameters& fast, double rate, double decay, Precision precision,
                int n_threads, Index n_labels);

    // The machine of the sums.
    Rbm& machine() { return machine_; }
    // Takes the step of an update that the slow parameters have taken. False if something became infinite or not a
    // number.
    bool update(ContrastiveDivergence& cd);

  private:
    Parameters sum();
    // fast = decay·fast + step, then slow + fast.
    void follow(const float* slow, float* fast, const float* step, Index n, float* sum) const;

    Parameters slow_, fast_;
    double rate_;
    float decay_;
    Buffer<float> w_, b_, c_, b_step_;
    Rbm machine_;
};

}  // namespace harmonium
