// SequentialTrainer, in float and in double.
#include "model/sequential.hpp"

#include "bind/arrays.hpp"
#include "bind/bindings.hpp"
#include "bind/rows.hpp"

namespace harmonium::bind {
namespace {

template <class T>
struct PySequentialTrainer {
    SequentialTrainer<T> trainer;
    std::mutex mutex;
    PySequentialTrainer(View<T> w, T* b, T* c, View<std::uint64_t> chains, int n_threads)
        : trainer(w, b, c, chains, n_threads) {}
};

template <class T>
void add_trainer(py::module_& m, const char* name) {
    using Self = PySequentialTrainer<T>;
    py::class_<Self>(m, name)
        .def(py::init([](const py::array& w, const py::array& b, const py::array& c, const py::array& chains,
                         int n_threads) {
                 const auto weights = matrix_view<T>(w, "W");
                 require(weights.rows >= 1 && weights.cols >= 1, "a machine has at least one unit on each side");
                 const auto states = bits_view<std::uint64_t>(chains, weights.cols, "chains");
                 require(states.rows >= 1, "there must be at least one chain");
                 return std::make_unique<Self>(weights, vector_view<T>(b, weights.rows, "b"),
                                               vector_view<T>(c, weights.cols, "c"), states, n_threads);
             }),
             py::arg("W"), py::arg("b"), py::arg("c"), py::arg("chains"), py::arg("n_threads"), py::keep_alive<1, 2>(),
             py::keep_alive<1, 3>(), py::keep_alive<1, 4>(), py::keep_alive<1, 5>())
        .def_property_readonly("rows_done", [](const Self& self) { return self.trainer.rows_done(); })
        .def_property_readonly("numbers_per_update", [](const Self& self) { return self.trainer.numbers_per_update(); })
        .def(
            "run",
            [](Self& self, const PyRows& data, const py::object& order, Index begin, Index count, Index batch_size,
               double learning_rate, const py::array& uniform) {
                require(data.rows.cols() == self.trainer.n_visible(),
                        "the rows do not have the machine's number of units");
                const Batch batch = batch_of(data, order, begin, count, batch_size);
                const Index updates = count / batch_size + (count % batch_size != 0);
                const Index numbers = updates * self.trainer.numbers_per_update();
                const auto* uniform_numbers = vector_view<const double>(uniform, numbers, "uniform");
                Working working(self.mutex);
                self.trainer.run(batch, batch_size, learning_rate, uniform_numbers);
            },
            py::arg("rows"), py::arg("order"), py::arg("begin"), py::arg("count"), py::arg("batch_size"),
            py::arg("learning_rate"), py::arg("uniform"));
}

}  // namespace

void add_sequential(py::module_& m) {
    add_trainer<float>(m, "SequentialTrainer32");
    add_trainer<double>(m, "SequentialTrainer64");
}

}  // namespace harmonium::bind
