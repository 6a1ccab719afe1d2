#include "kernels/kernels.hpp"

namespace harmonium {

const Kernels& kernels(Isa isa) {
    switch (isa) {
#if defined(__x86_64__)
        case Isa::avx512:
            return avx512::table;
        case Isa::avx2:
            return avx2::table;
#endif
        default:
            return baseline::table;
    }
}

const Kernels& kernels() { return kernels(active_isa()); }

}  // namespace harmonium
