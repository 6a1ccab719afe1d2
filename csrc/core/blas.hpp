// Single precision matrix products: the only place that knows which BLAS. Never call it inside a parallel region.
#pragma once

#include "core/view.hpp"

namespace harmonium {

// Fortran's sgemm with 32-bit integers, as scipy.linalg.cython_blas exports it.
using SgemmPointer = void (*)(char*, char*, int*, int*, int*, float*, float*, int*, float*, int*, float*, float*, int*);

void set_sgemm(SgemmPointer pointer);
bool has_sgemm();

enum class Transpose { no, yes };

// C = alpha·op(A)·op(B) + beta·C for row-major views; shapes are the caller's responsibility.
void sgemm(Transpose ta, Transpose tb, float alpha, View<const float> a, View<const float> b, float beta,
           View<float> c);

}  // namespace harmonium
