// The kernels for AVX2. Everything from outside is included before the region: a function of the standard library
// compiled inside it could be the copy the linker keeps for machines without AVX2.
#include "kernels/standard_headers.hpp"

#if defined(__x86_64__)
#define HARMONIUM_VECTOR_BYTES 32

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,fma,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,fma,popcnt")
#endif

namespace harmonium::avx2 {
#include "kernels/bodies.inc"
}  // namespace harmonium::avx2

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
