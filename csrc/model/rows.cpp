#include "model/rows.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/kernels.hpp"

namespace harmonium {

Rows Rows::bits(View<const std::uint64_t> words, Index cols) {
    return {Kind::bits, words.data, words.rows, cols, words.stride};
}

Rows Rows::bytes(View<const std::uint8_t> bytes) {
    return {Kind::bytes, bytes.data, bytes.rows, bytes.cols, bytes.stride};
}

Rows Rows::real(View<const float> values) { return {Kind::f32, values.data, values.rows, values.cols, values.stride}; }

Rows Rows::real(View<const double> values) { return {Kind::f64, values.data, values.rows, values.cols, values.stride}; }

Rows Rows::sparse(const Index* indptr, const std::int32_t* indices, const float* values, Index rows, Index cols) {
    Rows result{values ? Kind::sparse_f32 : Kind::sparse_ones, values, rows, cols, 0};
    result.indptr_ = indptr;
    result.indices_ = indices;
    return result;
}

Rows Rows::sparse(const Index* indptr, const std::int32_t* indices, const double* values, Index rows, Index cols) {
    Rows result{Kind::sparse_f64, values, rows, cols, 0};
    result.indptr_ = indptr;
    result.indices_ = indices;
    return result;
}

Index Rows::list_ones(Index row, Index first, Index last, std::int32_t* out) const {
    switch (kind_) {
        case Kind::bits:
            return kernels().list_ones_bits(view<std::uint64_t>().row(row) + first / 64, last - first, out);
        case Kind::bytes:
            return kernels().list_ones_bytes(view<std::uint8_t>().row(row) + first, last - first, out);
        case Kind::sparse_ones: {
            const auto [begin, end] = stored_between(row, first, last);
            for (const std::int32_t* i = begin; i < end; ++i) *out++ = *i - static_cast<std::int32_t>(first);
            return end - begin;
        }
        default:
            return 0;
    }
}

template <class T>
Index Rows::list_values(Index row, Index first, Index last, std::int32_t* index, T* values) const {
    const auto stored = [&](const auto* data) {
        const auto [begin, end] = stored_between(row, first, last);
        Index count = 0;
        for (const std::int32_t* i = begin; i < end; ++i) {
            index[count] = *i - static_cast<std::int32_t>(first);
            values[count] = static_cast<T>(data[i - indices_]);
            count += values[count] != 0;
        }
        return count;
    };
    const auto dense = [&](const auto* data) {
        Index count = 0;
        for (Index i = first; i < last; ++i) {
            index[count] = static_cast<std::int32_t>(i - first);
            values[count] = static_cast<T>(data[i]);
            count += values[count] != 0;
        }
        return count;
    };
    switch (kind_) {
        case Kind::f32:
            if constexpr (std::is_same_v<T, float>)
                return kernels().list_values_f32(view<float>().row(row) + first, last - first, index, values);
            else
                return dense(view<float>().row(row));
        case Kind::f64:
            return dense(view<double>().row(row));
        case Kind::sparse_f32:
            return stored(static_cast<const float*>(data_));
        case Kind::sparse_f64:
            return stored(static_cast<const double*>(data_));
        default: {
            const Index count = list_ones(row, first, last, index);
            std::fill_n(values, count, T{1});
            return count;
        }
    }
}

template Index Rows::list_values(Index, Index, Index, std::int32_t*, float*) const;
template Index Rows::list_values(Index, Index, Index, std::int32_t*, double*) const;

std::pair<const std::int32_t*, const std::int32_t*> Rows::stored_between(Index row, Index first, Index last) const {
    const std::int32_t *begin = indices_ + indptr_[row], *end = indices_ + indptr_[row + 1];
    if (first > 0) begin = std::lower_bound(begin, end, static_cast<std::int32_t>(first));
    if (last < cols_) end = std::lower_bound(begin, end, static_cast<std::int32_t>(last));
    return {begin, end};
}

float Rows::value(Index row, Index col) const {
    switch (kind_) {
        case Kind::bits:
            return static_cast<float>(view<std::uint64_t>()(row, col / 64) >> (col % 64) & 1);
        case Kind::bytes:
            return view<std::uint8_t>()(row, col) ? 1.0f : 0.0f;
        case Kind::f32:
            return view<float>()(row, col);
        case Kind::f64:
            return static_cast<float>(view<double>()(row, col));
        default:
            break;
    }
    const std::int32_t* end = indices_ + indptr_[row + 1];
    const std::int32_t* found = std::lower_bound(indices_ + indptr_[row], end, static_cast<std::int32_t>(col));
    if (found == end || *found != col) return 0.0f;
    if (kind_ == Kind::sparse_ones) return 1.0f;
    const Index k = found - indices_;
    return kind_ == Kind::sparse_f32 ? static_cast<const float*>(data_)[k]
                                     : static_cast<float>(static_cast<const double*>(data_)[k]);
}

void Rows::copy_values(Index row, float* out) const {
    const auto scatter = [&](auto value_at) {
        std::fill_n(out, cols_, 0.0f);
        for (Index k = indptr_[row]; k < indptr_[row + 1]; ++k) out[indices_[k]] = value_at(k);
    };
    switch (kind_) {
        case Kind::bits:
            kernels().unpack_f32(view<std::uint64_t>().row(row), cols_, out);
            break;
        case Kind::bytes:
            std::transform(view<std::uint8_t>().row(row), view<std::uint8_t>().row(row) + cols_, out,
                           [](std::uint8_t x) { return x ? 1.0f : 0.0f; });
            break;
        case Kind::f32:
            std::copy_n(view<float>().row(row), cols_, out);
            break;
        case Kind::f64:
            std::transform(view<double>().row(row), view<double>().row(row) + cols_, out,
                           [](double x) { return static_cast<float>(x); });
            break;
        case Kind::sparse_ones:
            scatter([](Index) { return 1.0f; });
            break;
        case Kind::sparse_f32:
            scatter([&](Index k) { return static_cast<const float*>(data_)[k]; });
            break;
        case Kind::sparse_f64:
            scatter([&](Index k) { return static_cast<float>(static_cast<const double*>(data_)[k]); });
            break;
    }
}

View<const float> Rows::as_f32() const { return kind_ == Kind::f32 ? view<float>() : View<const float>{}; }

}  // namespace harmonium
