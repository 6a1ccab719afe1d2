// Functions of arrays: activations, draws, bits, and the float32 product.
#include <algorithm>
#include <atomic>

#include "bind/arrays.hpp"
#include "bind/bindings.hpp"
#include "core/blas.hpp"
#include "core/parallel.hpp"
#include "kernels/kernels.hpp"
#include "rng/philox.hpp"

namespace harmonium::bind {
namespace {

// How many elements a call on `view` touches, as work for threads_for.
template <class T>
double elements(const View<T>& view) {
    return static_cast<double>(view.rows) * static_cast<double>(view.cols);
}

// Runs f(row, first column, columns) over pieces of a matrix: whole rows, or, where there are fewer rows than threads,
// parts of rows that start at multiples of 64.
template <class F>
void for_each_piece(Index rows, Index cols, double work, int n_threads, F&& f) {
    n_threads = threads_for(work, resolve_threads(n_threads));
    if (rows >= n_threads) {
        parallel_ranges(rows, n_threads, [&](Index begin, Index end, int) {
            for (Index r = begin; r < end; ++r) f(r, Index{0}, cols);
        });
        return;
    }
    const Index blocks = ceil_div(cols, 64);
    parallel_ranges(blocks, n_threads, [&](Index begin, Index end, int) {
        for (Index r = 0; r < rows; ++r) f(r, begin * 64, std::min(end * 64, cols) - begin * 64);
    });
}

using Elementwise = void (*)(const float*, Index, float*);

void apply(Elementwise Kernels::* kernel, const py::array& x, const py::array& out, int n_threads) {
    const auto from = matrix_view<const float>(x, "x");
    const auto to = matrix_view<float>(out, "out");
    require_shape(to, from.rows, from.cols, "out");
    py::gil_scoped_release release;
    const Elementwise f = kernels().*kernel;
    for_each_piece(from.rows, from.cols, 4 * elements(from), n_threads,
                   [&](Index r, Index j, Index n) { f(from.row(r) + j, n, to.row(r) + j); });
}

// Draws into bits, bytes or floats, through a strip of words that stays in the first-level cache.
template <class T, class Unpack>
void sample_unpacked(View<const float> p, View<T> out, rng::Draw draw, std::uint32_t row0, int n_threads,
                     Unpack unpack) {
    constexpr Index strip = 4096;
    for_each_piece(p.rows, p.cols, 4 * elements(p), n_threads, [&](Index r, Index first, Index n) {
        std::uint64_t words[strip / 64];
        for (Index j = first; j < first + n; j += strip) {
            const Index cols = std::min(strip, first + n - j);
            kernels().draw_bits_f32({p.row(r) + j, 1, cols, cols}, draw, row0 + static_cast<std::uint32_t>(r), j,
                                    {words, 1, strip / 64, strip / 64});
            unpack(words, cols, out.row(r) + j);
        }
    });
}

void sample_bernoulli(const py::array& p, const py::array& out, std::uint64_t seed, std::uint64_t step,
                      std::uint32_t stream, std::uint32_t row0, int n_threads) {
    const auto from = matrix_view<const float>(p, "p");
    const rng::Draw draw{seed, step, stream};
    if (py::isinstance<py::array_t<std::uint64_t>>(out)) {
        const auto words = bits_view<std::uint64_t>(out, from.cols, "out");
        require_shape(words, from.rows, words.cols, "out");
        py::gil_scoped_release release;
        for_each_piece(from.rows, from.cols, 4 * elements(from), n_threads, [&](Index r, Index j, Index n) {
            kernels().draw_bits_f32({from.row(r) + j, 1, n, n}, draw, row0 + static_cast<std::uint32_t>(r), j,
                                    {words.row(r) + j / 64, 1, ceil_div(n, 64), words.stride});
        });
    } else if (py::isinstance<py::array_t<float>>(out)) {
        const auto to = matrix_view<float>(out, "out");
        require_shape(to, from.rows, from.cols, "out");
        py::gil_scoped_release release;
        sample_unpacked(from, to, draw, row0, n_threads, kernels().unpack_f32);
    } else {
        const auto to = matrix_view<std::uint8_t>(out, "out");
        require_shape(to, from.rows, from.cols, "out");
        py::gil_scoped_release release;
        sample_unpacked(from, to, draw, row0, n_threads, kernels().unpack_bytes);
    }
}

// Packs and scans in one pass over the values; returns the flags of all rows together.
template <class T>
std::uint32_t pack_as(const py::array& values, const py::array& words, int n_threads,
                      std::uint32_t (*Kernels::*kernel)(const T*, Index, std::uint64_t*)) {
    const auto from = matrix_view<const T>(values, "values");
    const auto to = bits_view<std::uint64_t>(words, from.cols, "words");
    require_shape(to, from.rows, to.cols, "words");
    std::atomic<std::uint32_t> flags{0};
    py::gil_scoped_release release;
    parallel_ranges(from.rows, threads_for(elements(from), resolve_threads(n_threads)),
                    [&](Index begin, Index end, int) {
                        std::uint32_t found = 0;
                        for (Index r = begin; r < end; ++r)
                            found |= (kernels().*kernel)(from.row(r), from.cols, to.row(r));
                        flags |= found;
                    });
    return flags;
}

std::uint32_t pack(const py::array& values, const py::array& words, int n_threads) {
    if (py::isinstance<py::array_t<float>>(values)) return pack_as<float>(values, words, n_threads, &Kernels::pack_f32);
    if (py::isinstance<py::array_t<double>>(values))
        return pack_as<double>(values, words, n_threads, &Kernels::pack_f64);
    return pack_as<std::uint8_t>(values, words, n_threads, &Kernels::pack_bytes);
}

void unpack(const py::array& words, const py::array& out, int n_threads) {
    const auto unpack_to = [&](auto to, auto kernel) {
        const auto from = bits_view<const std::uint64_t>(words, to.cols, "words");
        require_shape(from, to.rows, from.cols, "words");
        py::gil_scoped_release release;
        parallel_ranges(to.rows, threads_for(elements(to), resolve_threads(n_threads)),
                        [&](Index begin, Index end, int) {
                            for (Index r = begin; r < end; ++r) kernel(from.row(r), to.cols, to.row(r));
                        });
    };
    if (py::isinstance<py::array_t<float>>(out))
        unpack_to(matrix_view<float>(out, "out"), kernels().unpack_f32);
    else
        unpack_to(matrix_view<std::uint8_t>(out, "out"), kernels().unpack_bytes);
}

void multiply(const py::array& a, const py::array& b, const py::array& out, int n_threads) {
    const auto va = matrix_view<const float>(a, "a"), vb = matrix_view<const float>(b, "b");
    const auto c = matrix_view<float>(out, "out");
    require(va.cols == vb.rows, "a and b do not fit");
    require_shape(c, va.rows, vb.cols, "out");
    require_blas();
    py::gil_scoped_release release;
    sgemm(va, vb, c, resolve_threads(n_threads));
}

py::array_t<std::uint32_t> philox(const py::array_t<std::uint32_t, py::array::c_style>& counters, std::uint64_t seed) {
    const auto from = matrix_view<const std::uint32_t>(counters, "counters");
    require(from.cols == 4, "counters must have four columns");
    py::array_t<std::uint32_t> result({from.rows, from.cols});
    const auto to = matrix_view<std::uint32_t>(result, "result");
    for (Index r = 0; r < from.rows; ++r) {
        const std::uint32_t* c = from.row(r);
        const rng::Counter words = rng::philox4x32({c[0], c[1], c[2], c[3]}, seed);
        std::copy(words.begin(), words.end(), to.row(r));
    }
    return result;
}

}  // namespace

void add_elementwise(py::module_& m) {
    m.def("sigmoid", [](const py::array& x, const py::array& out, int n_threads) {
        apply(&Kernels::sigmoid_f32, x, out, n_threads);
    });
    m.def("softplus", [](const py::array& x, const py::array& out, int n_threads) {
        apply(&Kernels::softplus_f32, x, out, n_threads);
    });
    m.def("sample_bernoulli", &sample_bernoulli, py::arg("p"), py::arg("out"), py::arg("seed"), py::arg("step"),
          py::arg("stream"), py::arg("row0"), py::arg("n_threads"));
    m.def("pack", &pack, py::arg("values"), py::arg("words"), py::arg("n_threads"));
    m.def("unpack", &unpack, py::arg("words"), py::arg("out"), py::arg("n_threads"));
    m.def("multiply", &multiply, py::arg("a"), py::arg("b"), py::arg("out"), py::arg("n_threads"));
    m.def("philox", &philox, py::arg("counters"), py::arg("seed"));
    m.attr("NOT_BINARY") = static_cast<std::uint32_t>(scan_not_binary);
    m.attr("OUT_OF_RANGE") = static_cast<std::uint32_t>(scan_out_of_range);
}

}  // namespace harmonium::bind
