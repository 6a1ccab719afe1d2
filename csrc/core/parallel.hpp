// Threads: the only place that knows OpenMP.
#pragma once

#ifndef _OPENMP
#error "harmonium needs OpenMP: compile with -fopenmp (GCC: libgomp, Clang: install libomp's headers or use GCC)"
#endif

#include <algorithm>
#include <exception>

#include "core/view.hpp"

namespace harmonium {

// True in a process forked from one that had loaded harmonium: libgomp's pool did not survive the fork and a parallel
// region would wait for it for ever, so everything runs on the calling thread there.
bool in_forked_child();

// The number of threads for a request: `requested` if positive, else what OpenMP allows; 1 in a forked child. Never
// more than four a processor: results do not depend on it, and libgomp ends the process when the system refuses it a
// thread.
int resolve_threads(int requested);

// How much a thread must have to do before waking it pays: about 5 microseconds of row sums at 64 columns a row.
constexpr double work_per_thread = 5e3;

// Fewer threads for small work; `work` counts additions or elements of similar cost.
inline int threads_for(double work, int n_threads) {
    return std::max(1, static_cast<int>(std::min<double>(n_threads, work / work_per_thread)));
}

// Calls f(begin, end, thread) over a split of [0, n) into contiguous ranges, one a thread, and waits. The split depends
// on n and n_threads only. An exception thrown by f is rethrown here after all have finished.
template <class F>
void parallel_ranges(Index n, int n_threads, F&& f) {
    n_threads = static_cast<int>(std::min<Index>(n_threads, n));
    if (n_threads <= 1 || in_forked_child()) {
        if (n > 0) f(Index{0}, n, 0);
        return;
    }
    std::exception_ptr error;
#pragma omp parallel for num_threads(n_threads) schedule(static, 1)
    for (int thread = 0; thread < n_threads; ++thread) {
        try {
            f(n * thread / n_threads, n * (thread + 1) / n_threads, thread);
        } catch (...) {
#pragma omp critical(harmonium_error)
            error = std::current_exception();
        }
    }
    if (error) std::rethrow_exception(error);
}

}  // namespace harmonium
