// The matrix product of `ops.matmul` where both operands are real: the only place that knows which BLAS. (All other
// products are kernels of our own, dense.inc.)
//
// The BLAS is used as a serial kernel, and the threads are ours: two pools, each of which spins for a while after its
// work, wait for one another on few cores. engine/cpu.py holds the BLAS to one thread while the extension uses it.
#pragma once

#include "core/view.hpp"

namespace harmonium {

// Fortran's sgemm with 32-bit integers, as scipy.linalg.cython_blas exports it.
using SgemmPointer = void (*)(char*, char*, int*, int*, int*, float*, float*, int*, float*, int*, float*, float*, int*);

void set_sgemm(SgemmPointer pointer);
bool has_sgemm();

// C = A·B for row-major views; shapes are the caller's responsibility. C is dealt to threads by rows, or by columns
// where there are few rows.
void sgemm(View<const float> a, View<const float> b, View<float> c, int n_threads);

}  // namespace harmonium
