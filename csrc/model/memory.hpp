// Arrays aligned to cache lines, and scratch that grows once and then stays.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

#include "core/view.hpp"

namespace harmonium {

// Uninitialised memory of trivial T; `reserve` keeps it when it is large enough.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(Index n) { reserve(n); }

    // Room for n values; what was there is lost if the buffer has to grow.
    T* reserve(Index n) {
        if (n > size_) {
            if (n > std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T)) - 64) throw std::bad_alloc();
            const std::size_t bytes = static_cast<std::size_t>(ceil_div(n * static_cast<Index>(sizeof(T)), 64)) * 64;
            // Without memory for the new the old stays: a buffer outlives the call that failed.
            T* data = static_cast<T*>(std::aligned_alloc(64, bytes));
            if (!data) throw std::bad_alloc();
            data_.reset(data);
            size_ = n;
        }
        return data_.get();
    }
    // The same, all bytes zero.
    T* reserve_zeros(Index n) {
        reserve(n);
        if (n > 0) std::memset(data_.get(), 0, static_cast<std::size_t>(n) * sizeof(T));
        return data_.get();
    }
    T* data() const { return data_.get(); }
    T& operator[](Index i) const { return data_.get()[i]; }

  private:
    struct Free {
        void operator()(T* p) const { std::free(p); }
    };
    std::unique_ptr<T, Free> data_;
    Index size_ = 0;
};

}  // namespace harmonium
