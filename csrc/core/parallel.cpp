#include "core/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>

namespace harmonium {
namespace {

std::atomic<bool> forked{false};
const int registered = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });

}  // namespace

bool in_forked_child() { return registered == 0 && forked.load(std::memory_order_relaxed); }

int resolve_threads(int requested) {
    if (in_forked_child()) return 1;
    const int most = std::max(8, 4 * omp_get_num_procs());
    return std::min(requested > 0 ? requested : omp_get_max_threads(), most);
}

}  // namespace harmonium
