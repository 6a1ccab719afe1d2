#include "core/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <atomic>

namespace harmonium {
namespace {

std::atomic<bool> forked{false};
const int registered = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });

}  // namespace

bool in_forked_child() { return registered == 0 && forked.load(std::memory_order_relaxed); }

int resolve_threads(int requested) {
    if (in_forked_child()) return 1;
    return requested > 0 ? requested : omp_get_max_threads();
}

}  // namespace harmonium
