// Network: layers of parameters, predictions, training.
#include "model/network.hpp"

#include <pybind11/stl.h>

#include "bind/arrays.hpp"
#include "bind/bindings.hpp"
#include "bind/rows.hpp"

namespace harmonium::bind {
namespace {

struct PyNetwork {
    Network network;
    py::object owners;  // the arrays it works on
    std::mutex mutex;
    PyNetwork(std::vector<DenseLayer> layers, const NetworkOptions& options, int n_threads, py::object owners)
        : network(std::move(layers), options, n_threads), owners(std::move(owners)) {}
};

template <class Word>
Word word_of(const std::string& given, const char* name, std::initializer_list<std::pair<const char*, Word>> words) {
    for (const auto& [word, value] : words)
        if (given == word) return value;
    throw py::value_error(std::string(name) + " is unknown: '" + given + "'");
}

Moment moment_of(const py::handle& arrays, const DenseLayer& layer) {
    const auto pair = py::cast<py::tuple>(arrays);
    require(pair.size() == 2, "a moment is (W, c)");
    Moment moment;
    moment.w = matrix_view<float>(py::cast<py::array>(pair[0]), "W of a moment");
    require_shape(moment.w, layer.inputs(), layer.outputs(), "W of a moment");
    moment.c = vector_view<float>(py::cast<py::array>(pair[1]), layer.outputs(), "c of a moment");
    return moment;
}

// (W, c, activation, dropout, moments)
DenseLayer layer_of(const py::tuple& given, Index n_moments) {
    require(given.size() == 5, "a layer is (W, c, activation, dropout, moments)");
    DenseLayer layer;
    layer.w = matrix_view<float>(py::cast<py::array>(given[0]), "W");
    require(layer.inputs() >= 1 && layer.outputs() >= 1, "a layer has at least one input and one output");
    layer.c = vector_view<float>(py::cast<py::array>(given[1]), layer.outputs(), "c");
    layer.activation = word_of<Activation>(py::cast<std::string>(given[2]), "the activation",
                                           {{"identity", Activation::identity}, {"sigmoid", Activation::sigmoid}});
    layer.dropout = py::cast<double>(given[3]);
    require(layer.dropout >= 0 && layer.dropout < 1, "dropout must lie in [0, 1)");
    const auto moments = py::cast<py::tuple>(given[4]);
    require(static_cast<Index>(moments.size()) >= n_moments, "the optimizer wants more moments");
    if (n_moments >= 1) layer.first = moment_of(moments[0], layer);
    if (n_moments >= 2) layer.second = moment_of(moments[1], layer);
    return layer;
}

std::unique_ptr<PyNetwork> make_network(const py::list& given, const std::string& loss, const std::string& optimizer,
                                        double l2, double max_norm, double beta1, double beta2, double epsilon,
                                        std::uint64_t seed, int n_threads) {
    NetworkOptions options;
    options.loss = word_of<Loss>(loss, "the loss",
                                 {{"softmax_cross_entropy", Loss::softmax_cross_entropy},
                                  {"sigmoid_cross_entropy", Loss::sigmoid_cross_entropy},
                                  {"squared_error", Loss::squared_error}});
    options.optimizer =
        word_of<Optimizer>(optimizer, "the optimizer",
                           {{"sgd", Optimizer::sgd}, {"momentum", Optimizer::momentum}, {"adam", Optimizer::adam}});
    options.l2 = l2;
    options.max_norm = max_norm;
    options.beta1 = beta1;
    options.beta2 = beta2;
    options.epsilon = epsilon;
    options.seed = seed;
    const Index n_moments =
        options.optimizer == Optimizer::adam ? 2 : (options.optimizer == Optimizer::momentum ? 1 : 0);
    require(!given.empty(), "a network has at least one layer");
    std::vector<DenseLayer> layers;
    for (const py::handle item : given) {
        layers.push_back(layer_of(py::cast<py::tuple>(item), n_moments));
        if (layers.size() == 1) continue;
        const DenseLayer &below = layers[layers.size() - 2], &layer = layers.back();
        require(below.outputs() == layer.inputs(), "a layer must have as many inputs as the one below has outputs");
        // What was dropped is told from a sigmoid's value alone.
        require(layer.dropout == 0 || below.activation == Activation::sigmoid, "only sigmoid units can be dropped");
    }
    // A tuple of its own: the caller may empty the list.
    return std::make_unique<PyNetwork>(std::move(layers), options, n_threads, py::tuple(given));
}

void predict(PyNetwork& self, const PyRows& data, Index n_layers, const py::array& out) {
    Network& network = self.network;
    require(data.rows.cols() == network.inputs(), "the rows do not have the network's number of inputs");
    require(n_layers >= 1 && n_layers <= network.n_layers(), "n_layers must be 1 to the number of layers");
    const auto to = matrix_view<float>(out, "out");
    require_shape(to, data.rows.rows(), network.outputs_after(n_layers), "out");
    Working working(self.mutex);
    network.predict(data.rows, n_layers, to);
}

py::tuple train(PyNetwork& self, const PyRows& data, const py::object& targets, const py::object& class_weights,
                const py::object& order, Index begin, Index count, Index batch_size, std::uint64_t step,
                double learning_rate, double momentum) {
    Network& network = self.network;
    require(data.rows.cols() == network.inputs(), "the rows do not have the network's number of inputs");
    const Batch batch = batch_of(data, order, begin, count, batch_size);
    Targets to;
    if (py::isinstance<PyRows>(targets)) {
        require(!network.is_classifier(), "this loss wants labels");
        require(class_weights.is_none(), "there are no classes to weigh");
        to.values = &py::cast<const PyRows&>(targets).rows;
        require(to.values->rows() == data.rows.rows() && to.values->cols() == network.outputs(),
                "the targets must have a row for each of the data, and the network's outputs");
    } else {
        require(network.is_classifier(), "this loss wants values");
        to.labels = vector_view<const std::int32_t>(py::cast<py::array>(targets), data.rows.rows(), "labels");
        for (Index n = 0; n < count; ++n) {
            const std::int32_t label = to.labels[batch.row(n)];
            require(label >= 0 && label < network.outputs(), "a label is not one of the network's outputs");
        }
        if (!class_weights.is_none())
            to.class_weights =
                vector_view<const float>(py::cast<py::array>(class_weights), network.outputs(), "class_weights");
    }
    LossSums sums;
    {
        Working working(self.mutex);
        sums = network.train(batch, to, batch_size, step, learning_rate, momentum);
    }
    return py::make_tuple(sums.loss, sums.errors);
}

}  // namespace

void add_network(py::module_& m) {
    py::class_<PyNetwork>(m, "Network")
        .def(py::init(&make_network), py::arg("layers"), py::arg("loss"), py::arg("optimizer"), py::arg("l2"),
             py::arg("max_norm"), py::arg("beta1"), py::arg("beta2"), py::arg("epsilon"), py::arg("seed"),
             py::arg("n_threads"))
        .def_property_readonly("rows_done", [](const PyNetwork& self) { return self.network.rows_done(); })
        .def("predict", &predict, py::arg("rows"), py::arg("n_layers"), py::arg("out"))
        .def("train", &train, py::arg("rows"), py::arg("targets"), py::arg("class_weights"), py::arg("order"),
             py::arg("begin"), py::arg("count"), py::arg("batch_size"), py::arg("step"), py::arg("learning_rate"),
             py::arg("momentum"));
}

}  // namespace harmonium::bind
