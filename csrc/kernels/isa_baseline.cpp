// The kernels for every machine of the platform: SSE2 on x86-64, NEON on aarch64.
#include "kernels/standard_headers.hpp"

#define HARMONIUM_VECTOR_BYTES 16

namespace harmonium::baseline {
#include "kernels/bodies.inc"
}  // namespace harmonium::baseline
