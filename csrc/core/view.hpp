// Arrays as the code below bind/ sees them: a pointer, a shape, a row stride. Columns are contiguous.
#pragma once

#include <cstdint>

namespace harmonium {

using Index = std::int64_t;

// A matrix somebody else owns; `stride` counts elements from one row to the next. `View<const T>` is read-only.
template <class T>
struct View {
    T* data = nullptr;
    Index rows = 0;
    Index cols = 0;
    Index stride = 0;

    T* row(Index r) const { return data + r * stride; }
    T& operator()(Index r, Index c) const { return data[r * stride + c]; }
    bool empty() const { return data == nullptr; }

    View row_range(Index begin, Index end) const { return {row(begin), end - begin, cols, stride}; }
    operator View<const T>() const { return {data, rows, cols, stride}; }
};

// begin … end − 1
struct Range {
    Index begin, end;
};

inline Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

}  // namespace harmonium
