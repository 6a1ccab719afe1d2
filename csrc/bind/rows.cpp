// Rows: bits, bytes, real values, dense or sparse.
#include "bind/rows.hpp"

#include "bind/arrays.hpp"
#include "bind/bindings.hpp"

namespace harmonium::bind {
namespace {

void check_sparse(const Index* indptr, const std::int32_t* indices, Index rows, Index stored, Index cols) {
    require(indptr[0] == 0 && indptr[rows] == stored, "indptr does not fit the indices");
    for (Index r = 0; r < rows; ++r) {
        require(indptr[r] <= indptr[r + 1] && indptr[r + 1] <= stored, "indptr must ascend");
        for (Index k = indptr[r]; k < indptr[r + 1]; ++k)
            require(indices[k] >= 0 && indices[k] < cols && (k == indptr[r] || indices[k - 1] < indices[k]),
                    "indices must ascend within a row and lie inside it");
    }
}

PyRows sparse_rows(const py::array& their_indptr, const py::array& their_indices, const py::object& values,
                   Index cols) {
    require(their_indptr.ndim() == 1 && their_indptr.shape(0) >= 1 && their_indices.ndim() == 1,
            "indptr and indices must be vectors");
    const Index rows = their_indptr.shape(0) - 1, stored = their_indices.shape(0);
    vector_view<const Index>(their_indptr, rows + 1, "indptr");
    vector_view<const std::int32_t>(their_indices, stored, "indices");
    // Copies of what says where to read: it is checked here, and must be the same whenever it is used.
    const py::array indptr = their_indptr.attr("copy")(), indices = their_indices.attr("copy")();
    const auto* ptr = static_cast<const Index*>(indptr.data());
    const auto* idx = static_cast<const std::int32_t*>(indices.data());
    check_sparse(ptr, idx, rows, stored, cols);
    const py::tuple owners = py::make_tuple(indptr, indices, values);
    if (values.is_none()) return {Rows::sparse(ptr, idx, static_cast<const float*>(nullptr), rows, cols), owners};
    const auto array = py::cast<py::array>(values);
    if (py::isinstance<py::array_t<float>>(array))
        return {Rows::sparse(ptr, idx, vector_view<const float>(array, stored, "values"), rows, cols), owners};
    return {Rows::sparse(ptr, idx, vector_view<const double>(array, stored, "values"), rows, cols), owners};
}

PyRows real_rows(const py::array& values) {
    const bool is_float = py::isinstance<py::array_t<float>>(values);
    return {is_float ? Rows::real(matrix_view<const float>(values, "values"))
                     : Rows::real(matrix_view<const double>(values, "values")),
            py::make_tuple(values)};
}

PyRows bit_rows(const py::array& words, Index cols) {
    require(cols >= 0, "cols must not be negative");
    return {Rows::bits(bits_view<const std::uint64_t>(words, cols, "words"), cols), py::make_tuple(words)};
}

PyRows byte_rows(const py::array& bytes) {
    return {Rows::bytes(matrix_view<const std::uint8_t>(bytes, "bytes")), py::make_tuple(bytes)};
}

}  // namespace

Batch batch_of(const PyRows& data, const py::object& order, Index begin, Index count, Index batch_size) {
    const Rows& rows = data.rows;
    require(batch_size >= 1 && begin >= 0 && count >= 0, "begin, count and batch_size must fit");
    if (order.is_none()) {
        require(begin <= rows.rows() && count <= rows.rows() - begin, "the batches reach past the data");
        return {rows, begin, count};
    }
    const auto array = py::cast<py::array>(order);
    require(array.ndim() == 1 && begin <= array.shape(0) && count <= array.shape(0) - begin,
            "the batches reach past the order");
    const Index* index = vector_view<const Index>(array, array.shape(0), "order");
    for (Index n = begin; n < begin + count; ++n)
        require(index[n] >= 0 && index[n] < rows.rows(), "order names a row that is not there");
    return {rows, begin, count, index};
}

void add_rows(py::module_& m) {
    py::class_<PyRows>(m, "Rows")
        .def_static("bits", &bit_rows, py::arg("words"), py::arg("cols"))
        .def_static("bytes", &byte_rows, py::arg("bytes"))
        .def_static("real", &real_rows, py::arg("values"))
        .def_static("sparse", &sparse_rows, py::arg("indptr"), py::arg("indices"), py::arg("values"), py::arg("cols"))
        .def_property_readonly("n_rows", [](const PyRows& self) { return self.rows.rows(); })
        .def_property_readonly("n_cols", [](const PyRows& self) { return self.rows.cols(); })
        .def_property_readonly("is_binary", [](const PyRows& self) { return self.rows.is_binary(); })
        .def(
            "copy_values",
            [](const PyRows& self, const py::array& order, const py::array& out) {
                const Rows& rows = self.rows;
                const auto to = matrix_view<float>(out, "out");
                require_shape(to, order.size(), rows.cols(), "out");
                const Index* row = vector_view<const Index>(order, order.size(), "order");
                for (Index n = 0; n < to.rows; ++n) {
                    require(row[n] >= 0 && row[n] < rows.rows(), "order names a row that is not there");
                    rows.copy_values(row[n], to.row(n));
                }
            },
            py::arg("order"), py::arg("out"));
}

}  // namespace harmonium::bind
