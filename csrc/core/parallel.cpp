#include "core/parallel.hpp"

#include <omp.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _OPENMP
#error "harmonium needs OpenMP: compile with -fopenmp (GCC: libgomp, Clang: install libomp's headers or use GCC)"
#endif

namespace harmonium {
namespace {

std::atomic<bool> forked{false};
const int registered = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });

// Set on a thread that runs a task: what it wants to share out it does itself.
thread_local bool is_in_task = false;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Waits for a condition, awake for a while: true if it came.
template <class Condition>
bool spin_until(Condition&& condition) {
    // Longer than what lies between two tasks of a training, much shorter than a turn of the scheduler.
    constexpr auto awake = std::chrono::microseconds(100);
    const auto end = std::chrono::steady_clock::now() + awake;
    do {
        for (int n = 0; n < 64; ++n) {
            if (condition()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return condition();
}

// The threads that share one caller's work. A task is claimed by the thread whose it is, or by the caller, who comes by
// when his own is done: so nobody ever waits for a thread that is asleep, or that another process keeps from its core,
// unless it is in the midst of a task. (Libgomp's threads wait for one another at every barrier, awake: beside other
// work on both cores a training took 3.3 times as long.)
class Team {
  public:
    explicit Team(int most) : most_(most), claims_(new Claim[static_cast<std::size_t>(most)]) {}
    ~Team() {
        publish(0, nullptr, nullptr);
        for (std::thread& thread : threads_) thread.join();
    }

    void run(int n, void (*task)(void*, int), void* context) {
        for (; n > most_; --n) task(context, n - 1);
        grow(n - 1);
        left_.store(n, std::memory_order_relaxed);
        const std::uint64_t region = publish(n, task, context);
        for (int k = 0; k < n; ++k) claim_and_run(region, k);
        const auto is_done = [&] { return left_.load(std::memory_order_acquire) == 0; };
        if (spin_until(is_done)) return;
        std::unique_lock lock(mutex_);
        is_caller_asleep_.store(true);
        all_done_.wait(lock, [&] { return left_.load() == 0; });
        is_caller_asleep_.store(false);
    }

  private:
    // A region is a number and how many tasks it has, in one word so that nobody reads them from different ones.
    static constexpr int task_bits = 16;

    struct alignas(64) Claim {
        std::atomic<std::uint64_t> region{0};  // the last one whose task of this number somebody took
    };

    std::uint64_t publish(int n, void (*task)(void*, int), void* context) {
        task_ = task;
        context_ = context;
        const std::uint64_t region = (current_.load(std::memory_order_relaxed) >> task_bits) + 1;
        current_.store(region << task_bits | static_cast<std::uint64_t>(n));
        if (n_asleep_.load() > 0) {
            // Nobody is between his last look and his sleep while we hold this.
            {
                const std::lock_guard lock(mutex_);
            }
            work_came_.notify_all();
        }
        return region;
    }

    void claim_and_run(std::uint64_t region, int k) {
        std::atomic<std::uint64_t>& last = claims_[static_cast<std::size_t>(k)].region;
        std::uint64_t seen = last.load(std::memory_order_relaxed);
        // Of a region that is over all tasks were claimed: who comes late finds it so.
        if (seen >= region || !last.compare_exchange_strong(seen, region)) return;
        is_in_task = true;
        task_(context_, k);
        is_in_task = false;
        if (left_.fetch_sub(1) == 1 && is_caller_asleep_.load()) {
            {
                const std::lock_guard lock(mutex_);
            }
            all_done_.notify_one();
        }
    }

    void work(int k) {
        std::uint64_t seen = 0;
        for (;;) {
            const auto has_come = [&] { return current_.load(std::memory_order_acquire) != seen; };
            if (!spin_until(has_come)) {
                std::unique_lock lock(mutex_);
                n_asleep_.fetch_add(1);
                work_came_.wait(lock, has_come);
                n_asleep_.fetch_sub(1);
            }
            seen = current_.load();
            const int n = static_cast<int>(seen & ((1u << task_bits) - 1));
            if (n == 0) return;  // the end
            if (k < n) claim_and_run(seen >> task_bits, k);
        }
    }

    // So many threads beside the caller's. If the system refuses one the caller does its tasks.
    void grow(int n) {
        if (static_cast<int>(threads_.size()) >= n || is_refused_) return;
        // Signals are the interpreter's, on its own thread.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            while (static_cast<int>(threads_.size()) < n) {
                const int k = static_cast<int>(threads_.size()) + 1;
                threads_.emplace_back([this, k] { work(k); });
            }
        } catch (const std::system_error&) {
            is_refused_ = true;
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    alignas(64) std::atomic<std::uint64_t> current_{0};
    void (*task_)(void*, int) = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<int> left_{0};
    alignas(64) std::atomic<int> n_asleep_{0};
    std::atomic<bool> is_caller_asleep_{false};
    std::mutex mutex_;
    std::condition_variable work_came_, all_done_;
    const int most_;  // tasks that are shared out
    std::unique_ptr<Claim[]> claims_;
    std::vector<std::thread> threads_;
    bool is_refused_ = false;
};

int most_threads() { return std::max(8, 4 * omp_get_num_procs()); }

// A calling thread's own, so that callers never wait for one another's tasks.
struct TeamOfCaller {
    std::unique_ptr<Team> team;

    ~TeamOfCaller() {
        if (in_forked_child()) static_cast<void>(team.release());  // there are no threads to be ended
    }
    static Team& get() {
        thread_local TeamOfCaller mine;
        if (!mine.team) mine.team = std::make_unique<Team>(most_threads());
        return *mine.team;
    }
};

}  // namespace

bool in_forked_child() { return registered == 0 && forked.load(std::memory_order_relaxed); }

int resolve_threads(int requested) {
    if (in_forked_child()) return 1;
    return std::min(requested > 0 ? requested : omp_get_max_threads(), most_threads());
}

void run_tasks(int n, void (*task)(void* context, int k), void* context) {
    if (n > 1 && !is_in_task && !in_forked_child()) return TeamOfCaller::get().run(n, task, context);
    for (int k = 0; k < n; ++k) task(context, k);
}

}  // namespace harmonium
