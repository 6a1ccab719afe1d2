#include "core/blas.hpp"

#include <algorithm>
#include <climits>
#include <stdexcept>

#include "core/parallel.hpp"

namespace harmonium {
namespace {

SgemmPointer pointer = nullptr;

int to_int(Index n) {
    if (n > INT_MAX) throw std::length_error("a matrix dimension beyond 2^31 - 1 does not fit the BLAS interface");
    return static_cast<int>(n);
}

void serial_sgemm(View<const float> a, View<const float> b, View<float> c) {
    // A row-major product is the column-major product of the transposes in reverse order.
    char as_it_is = 'N';
    float one = 1.0f, zero = 0.0f;
    int m = to_int(c.rows), n = to_int(c.cols), k = to_int(a.cols);
    // A leading dimension of 0 is refused even where there is nothing to multiply.
    const auto leading = [](Index stride) { return std::max(to_int(stride), 1); };
    int lda = leading(a.stride), ldb = leading(b.stride), ldc = leading(c.stride);
    if (m == 0 || n == 0) return;
    pointer(&as_it_is, &as_it_is, &n, &m, &k, &one, const_cast<float*>(b.data), &ldb, const_cast<float*>(a.data), &lda,
            &zero, c.data, &ldc);
}

}  // namespace

void set_sgemm(SgemmPointer p) { pointer = p; }
bool has_sgemm() { return pointer != nullptr; }

void sgemm(View<const float> a, View<const float> b, View<float> c, int n_threads) {
    constexpr double flop_per_work = 50;  // a nanosecond of one core at half of its peak
    const double work = 2.0 * static_cast<double>(c.rows) * static_cast<double>(c.cols) * static_cast<double>(a.cols);
    n_threads = threads_for(work / flop_per_work, n_threads);
    constexpr Index rows_enough = 128;  // for each thread: below, the BLAS's blocking wants all the rows
    if (c.rows >= rows_enough * n_threads || c.cols < c.rows)
        parallel_ranges(c.rows, n_threads, [&](Index begin, Index end, int) {
            serial_sgemm(a.row_range(begin, end), b, c.row_range(begin, end));
        });
    else
        parallel_ranges(c.cols, n_threads, [&](Index begin, Index end, int) {
            serial_sgemm(a, {b.data + begin, b.rows, end - begin, b.stride},
                         {c.data + begin, c.rows, end - begin, c.stride});
        });
}

}  // namespace harmonium
