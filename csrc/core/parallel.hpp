// Threads: the only place that knows them.
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>

#include "core/view.hpp"

namespace harmonium {

// True in a process forked from one that had loaded harmonium: the threads did not survive the fork, so everything runs
// on the calling one there.
bool in_forked_child();

// The number of threads for a request: `requested` if positive, else what OpenMP would take, so that OMP_NUM_THREADS
// and threadpoolctl have their say; 1 in a forked child. Never more than four a processor: results do not depend on it.
int resolve_threads(int requested);

// How much a thread must have to do before waking it pays: about 5 microseconds of row sums at 64 columns a row.
constexpr double work_per_thread = 5e3;

// Fewer threads for small work; `work` counts additions or elements of similar cost.
inline int threads_for(double work, int n_threads) {
    return std::max(1, static_cast<int>(std::min<double>(n_threads, work / work_per_thread)));
}

// Calls task(context, k) for every k < n once, and waits: k on the caller's k-th thread, the same one every time, or on
// the calling one where that one is not running. Tasks throw nothing; those of a task run on its own thread.
void run_tasks(int n, void (*task)(void* context, int k), void* context);

// Calls f(begin, end, thread) over a split of [0, n) into contiguous ranges, one a thread, and waits. The split depends
// on n and n_threads only. An exception thrown by f is rethrown here after all have finished.
template <class F>
void parallel_ranges(Index n, int n_threads, F&& f) {
    n_threads = static_cast<int>(std::min<Index>(n_threads, n));
    if (n_threads <= 1) {
        if (n > 0) f(Index{0}, n, 0);
        return;
    }
    std::exception_ptr error;
    std::mutex error_mutex;
    auto range = [&](int thread) {
        try {
            f(n * thread / n_threads, n * (thread + 1) / n_threads, thread);
        } catch (...) {
            const std::lock_guard lock(error_mutex);
            error = std::current_exception();
        }
    };
    run_tasks(n_threads, [](void* context, int k) { (*static_cast<decltype(range)*>(context))(k); }, &range);
    if (error) std::rethrow_exception(error);
}

}  // namespace harmonium
