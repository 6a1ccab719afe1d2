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

}  // namespace

void set_sgemm(SgemmPointer p) { pointer = p; }
bool has_sgemm() { return pointer != nullptr; }

namespace {

void serial_sgemm(Transpose ta, Transpose tb, float alpha, View<const float> a, View<const float> b, float beta,
                  View<float> c) {
    // A row-major product is the column-major product of the transposes in reverse order.
    char op_a = ta == Transpose::yes ? 'T' : 'N';
    char op_b = tb == Transpose::yes ? 'T' : 'N';
    int m = to_int(c.rows), n = to_int(c.cols), k = to_int(ta == Transpose::yes ? a.rows : a.cols);
    // A leading dimension of 0 is refused even where there is nothing to multiply.
    const auto leading = [](Index stride) { return std::max(to_int(stride), 1); };
    int lda = leading(a.stride), ldb = leading(b.stride), ldc = leading(c.stride);
    if (m == 0 || n == 0) return;
    pointer(&op_b, &op_a, &n, &m, &k, &alpha, const_cast<float*>(b.data), &ldb, const_cast<float*>(a.data), &lda, &beta,
            c.data, &ldc);
}

// Rows begin … end − 1 of op(M).
View<const float> op_rows(Transpose t, View<const float> m, Index begin, Index end) {
    if (t == Transpose::no) return m.row_range(begin, end);
    return {m.data + begin, m.rows, end - begin, m.stride};
}

// Columns begin … end − 1 of op(M).
View<const float> op_cols(Transpose t, View<const float> m, Index begin, Index end) {
    return op_rows(t == Transpose::no ? Transpose::yes : Transpose::no, m, begin, end);
}

}  // namespace

void sgemm(Transpose ta, Transpose tb, float alpha, View<const float> a, View<const float> b, float beta, View<float> c,
           int n_threads) {
    const Index inner = ta == Transpose::yes ? a.rows : a.cols;
    constexpr double flop_per_work = 50;  // a nanosecond of one core at half of its peak
    const double work = 2.0 * static_cast<double>(c.rows) * static_cast<double>(c.cols) * static_cast<double>(inner);
    n_threads = threads_for(work / flop_per_work, n_threads);
    constexpr Index rows_enough = 128;  // for each thread: below, the BLAS's blocking wants all the rows
    if (c.rows >= rows_enough * n_threads || c.cols < c.rows)
        parallel_ranges(c.rows, n_threads, [&](Index begin, Index end, int) {
            serial_sgemm(ta, tb, alpha, op_rows(ta, a, begin, end), b, beta, c.row_range(begin, end));
        });
    else
        parallel_ranges(c.cols, n_threads, [&](Index begin, Index end, int) {
            serial_sgemm(ta, tb, alpha, a, op_cols(tb, b, begin, end), beta,
                         {c.data + begin, c.rows, end - begin, c.stride});
        });
}

}  // namespace harmonium
