#include "core/blas.hpp"

#include <algorithm>
#include <climits>
#include <stdexcept>

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

void sgemm(Transpose ta, Transpose tb, float alpha, View<const float> a, View<const float> b, float beta,
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

}  // namespace harmonium
