// Rows of data or of states, as the engine holds them: sets of active units, or real values. Nothing is owned.
#pragma once

#include <cstdint>
#include <utility>

#include "core/view.hpp"

namespace harmonium {

class Rows {
  public:
    // Bits as kernels pack them, those past `cols` clear.
    static Rows bits(View<const std::uint64_t> words, Index cols);
    // One byte a unit, 0 or not 0.
    static Rows bytes(View<const std::uint8_t> bytes);
    static Rows real(View<const float> values);
    static Rows real(View<const double> values);
    // Compressed sparse rows with ascending columns; `values` null means that every stored entry is 1.
    static Rows sparse(const Index* indptr, const std::int32_t* indices, const float* values, Index rows, Index cols);
    static Rows sparse(const Index* indptr, const std::int32_t* indices, const double* values, Index rows, Index cols);

    Index rows() const { return rows_; }
    Index cols() const { return cols_; }
    bool is_binary() const { return kind_ <= Kind::sparse_ones; }

    // Active units of a binary row, ascending, into `out` with room for cols rounded up to 64; returns how many.
    Index list_ones(Index row, std::int32_t* out) const { return list_ones(row, 0, cols_, out); }
    // The same for units first … last − 1, counted from `first`, which is a multiple of 64.
    Index list_ones(Index row, Index first, Index last, std::int32_t* out) const;
    // Positions and values of what is not zero in any row, likewise; returns how many.
    template <class T>
    Index list_values(Index row, Index first, Index last, std::int32_t* index, T* values) const;
    // The words of a row of bits; null for rows of another form.
    const std::uint64_t* words(Index row) const {
        return kind_ == Kind::bits ? view<std::uint64_t>().row(row) : nullptr;
    }
    bool is_packed() const { return kind_ == Kind::bits; }
    // One value of any row.
    float value(Index row, Index col) const;
    // Any row as floats.
    void copy_values(Index row, float* out) const;
    // The whole as a float32 matrix, if that is what it is; else an empty view.
    View<const float> as_f32() const;

  private:
    enum class Kind { bits, bytes, sparse_ones, f32, f64, sparse_f32, sparse_f64 };
    Rows(Kind kind, const void* data, Index rows, Index cols, Index stride)
        : kind_(kind), data_(data), rows_(rows), cols_(cols), stride_(stride) {}

    template <class T>
    View<const T> view() const {
        return {static_cast<const T*>(data_), rows_, cols_, stride_};
    }

    // Entries of a sparse row between two units.
    std::pair<const std::int32_t*, const std::int32_t*> stored_between(Index row, Index first, Index last) const;

    Kind kind_;
    const void* data_;  // words, bytes or values
    Index rows_, cols_, stride_;
    const Index* indptr_ = nullptr;
    const std::int32_t* indices_ = nullptr;
};

extern template Index Rows::list_values(Index, Index, Index, std::int32_t*, float*) const;
extern template Index Rows::list_values(Index, Index, Index, std::int32_t*, double*) const;

// Some rows of some data: row n is data row order[begin + n], or begin + n where there is no order.
struct Batch {
    const Rows& rows;
    Index begin;
    Index count;
    const Index* order = nullptr;

    Index row(Index n) const { return order ? order[begin + n] : begin + n; }
};

inline Batch all_of(const Rows& rows) { return {rows, 0, rows.rows(), nullptr}; }

}  // namespace harmonium
