// NumPy arrays as views. Python has already told the user what is wrong with an argument; these checks are what keeps a
// mistake in Python from becoming a crash, so their messages are short.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "core/view.hpp"

namespace harmonium::bind {

namespace py = pybind11;

template <class T>
View<T> matrix_view(const py::array& a, const char* name) {
    using Value = std::remove_const_t<T>;
    const auto fail = [&](const char* wanted) { throw py::value_error(std::string(name) + " must be " + wanted); };
    // Booleans are bytes of 0 and 1.
    const bool is_bool = std::is_same_v<Value, std::uint8_t> && py::isinstance<py::array_t<bool>>(a);
    if (!is_bool && !py::isinstance<py::array_t<Value>>(a))
        throw py::type_error(std::string(name) + " must have dtype " + std::string(py::str(py::dtype::of<Value>())) +
                             ", not " + std::string(py::str(a.dtype())));
    if (a.ndim() != 2) fail("two-dimensional");
    if (!(a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) fail("aligned");
    if (!std::is_const_v<T> && !a.writeable()) fail("writeable");
    const auto size = static_cast<Index>(sizeof(Value));
    const Index rows = a.shape(0), cols = a.shape(1);
    const bool is_empty = rows == 0 || cols == 0;  // NumPy may give such arrays any strides
    if (!is_empty && cols > 1 && a.strides(1) != size) fail("contiguous along its rows");
    Index stride = cols;
    if (!is_empty && rows > 1) {
        if (a.strides(0) % size != 0 || a.strides(0) < cols * size) fail("laid out in rows that do not overlap");
        stride = a.strides(0) / size;
    }
    return {static_cast<T*>(const_cast<void*>(a.data())), rows, cols, stride};
}

template <class T>
T* vector_view(const py::array& a, Index n, const char* name) {
    using Value = std::remove_const_t<T>;
    if (!py::isinstance<py::array_t<Value>>(a) || a.ndim() != 1 || a.shape(0) != n ||
        (n > 1 && a.strides(0) != static_cast<py::ssize_t>(sizeof(Value))) ||
        !(a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) || (!std::is_const_v<T> && !a.writeable()))
        throw py::value_error(std::string(name) + " must be a contiguous vector of " + std::to_string(n) + " " +
                              std::string(py::str(py::dtype::of<Value>())));
    return static_cast<T*>(const_cast<void*>(a.data()));
}

inline void require(bool condition, const char* message) {
    if (!condition) throw py::value_error(message);
}

template <class T>
void require_shape(const View<T>& view, Index rows, Index cols, const char* name) {
    if (view.rows != rows || view.cols != cols)
        throw py::value_error(std::string(name) + " must have shape (" + std::to_string(rows) + ", " +
                              std::to_string(cols) + "), not (" + std::to_string(view.rows) + ", " +
                              std::to_string(view.cols) + ")");
}

// An optional matrix: None is an empty view.
template <class T>
View<T> optional_matrix(const py::object& a, const char* name) {
    return a.is_none() ? View<T>{} : matrix_view<T>(py::cast<py::array>(a), name);
}

// Words of bits for rows of `cols` units.
template <class T>
View<T> bits_view(const py::array& a, Index cols, const char* name) {
    const View<T> view = matrix_view<T>(a, name);
    require_shape(view, view.rows, ceil_div(cols, 64), name);
    return view;
}

}  // namespace harmonium::bind
