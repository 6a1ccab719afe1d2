// The kernels for AVX-512 (F, BW, DQ, VL). See isa_avx2.cpp for the order of the includes.
#include "kernels/standard_headers.hpp"

#if defined(__x86_64__)
#define HARMONIUM_VECTOR_BYTES 64

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2,fma,popcnt"))), \
                             apply_to = function)
#else
// GCC 12 takes the undefined operand inside its own intrinsics for a mistake of ours (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2,fma,popcnt,prefer-vector-width=512")
#endif

namespace harmonium::avx512 {
#include "kernels/bodies.inc"
}  // namespace harmonium::avx512

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
