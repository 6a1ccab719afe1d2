// Rbm, the gradient, and the Trainer.
#include "bind/arrays.hpp"
#include "bind/bindings.hpp"
#include "bind/rows.hpp"
#include "model/chains.hpp"
#include "model/enumeration.hpp"
#include "model/products.hpp"
#include "model/trainer.hpp"

namespace harmonium::bind {
namespace {

struct PyRbm {
    Rbm rbm;
    std::mutex mutex;
    PyRbm(Parameters p, Precision precision, int n_threads, Index n_labels) : rbm(p, precision, n_threads, n_labels) {}
};

struct PyTrainer {
    Trainer trainer;
    std::mutex mutex;
    PyTrainer(Parameters p, TrainingState s, TrainingOptions o, Precision precision, int n_threads, RowTraits t)
        : trainer(p, s, o, precision, n_threads, t) {}
};

Precision parse_precision(const std::string& word) {
    if (word == "auto") return Precision::automatic;
    if (word == "float32") return Precision::float32;
    throw py::value_error("precision must be 'auto' or 'float32', not '" + word + "'");
}

Parameters parameters(const py::array& w, const py::array& b, const py::array& c, bool writable) {
    // Only training writes through these; everything else leaves read-only arrays as they are.
    const auto view = writable ? matrix_view<float>(w, "W") : [&] {
        const auto v = matrix_view<const float>(w, "W");
        return View<float>{const_cast<float*>(v.data), v.rows, v.cols, v.stride};
    }();
    const auto vector = [&](const py::array& a, Index n, const char* name) {
        return writable ? vector_view<float>(a, n, name) : const_cast<float*>(vector_view<const float>(a, n, name));
    };
    return {view, vector(b, view.rows, "b"), vector(c, view.cols, "c")};
}

void require_labels(const Parameters& p, Index n_labels) {
    require(n_labels >= 0 && n_labels <= p.w.rows, "n_labels must be from 0 to the number of visible units");
}

void require_inputs(const Rbm& rbm, Direction d, const Rows& rows) {
    require(rows.cols() == rbm.inputs(d), "the rows do not have the machine's number of units");
}

void propagate(PyRbm& self, Direction d, const PyRows& data, const py::array& out, bool probabilities) {
    Rbm& rbm = self.rbm;
    const Rows& rows = data.rows;
    require_inputs(rbm, d, rows);
    const auto to = matrix_view<float>(out, "out");
    require_shape(to, rows.rows(), rbm.outputs(d), "out");
    Working working(self.mutex);
    if (probabilities) {
        HalfStep step;
        step.probabilities = to;
        half_step(rbm, d, all_of(rows), step);
    } else {
        preactivations(rbm, d, all_of(rows), to);
    }
}

void draw_states(PyRbm& self, Direction d, const PyRows& data, const py::array& out, std::uint64_t seed,
                 std::uint64_t step, std::uint32_t stream, std::uint32_t row0) {
    Rbm& rbm = self.rbm;
    require_inputs(rbm, d, data.rows);
    require(stream < rng::low_half, "stream must be below 128");
    HalfStep half;
    half.states = bits_view<std::uint64_t>(out, rbm.outputs(d), "out");
    require(half.states.rows == data.rows.rows(), "out must have a row for each of the rows");
    half.draw = {seed, step, stream};
    half.row0 = row0;
    Working working(self.mutex);
    half_step(rbm, d, all_of(data.rows), half);
}

Chains chain_views(const Rbm& rbm, const py::array& v, const py::array& h, const py::object& pv, const py::object& ph) {
    Chains chains;
    chains.v = bits_view<std::uint64_t>(v, rbm.n_visible(), "v");
    chains.h = bits_view<std::uint64_t>(h, rbm.n_hidden(), "h");
    require(chains.v.rows == chains.h.rows, "v and h must have the same number of rows");
    chains.v_probabilities = optional_matrix<float>(pv, "v_probabilities");
    chains.h_probabilities = optional_matrix<float>(ph, "h_probabilities");
    if (!chains.v_probabilities.empty())
        require_shape(chains.v_probabilities, chains.v.rows, rbm.n_visible(), "v_probabilities");
    if (!chains.h_probabilities.empty())
        require_shape(chains.h_probabilities, chains.h.rows, rbm.n_hidden(), "h_probabilities");
    return chains;
}

// Of the chains' visible units; None and None hold nothing.
Clamp clamp_views(const Rbm& rbm, const py::object& mask, const py::object& values, Index n_chains) {
    Clamp clamp;
    if (mask.is_none()) return clamp;
    clamp.mask = bits_view<const std::uint64_t>(py::cast<py::array>(mask), rbm.n_visible(), "mask");
    clamp.values = bits_view<const std::uint64_t>(py::cast<py::array>(values), rbm.n_visible(), "values");
    for (const View<const std::uint64_t>& rows : {clamp.mask, clamp.values})
        require(rows.rows == 1 || rows.rows == n_chains, "mask and values must have one row, or one for each chain");
    return clamp;
}

void gibbs(PyRbm& self, const py::object& start, const py::array& v, const py::array& h, Index n_steps,
           std::uint64_t seed, std::uint64_t step, std::uint32_t row0, const py::object& pv, const py::object& ph,
           const py::object& mask, const py::object& values) {
    require(n_steps >= 0, "n_steps must not be negative");
    Rbm& rbm = self.rbm;
    const Chains chains = chain_views(rbm, v, h, pv, ph);
    const Clamp clamp = clamp_views(rbm, mask, values, chains.v.rows);
    const ChainDraws draws{seed, step, row0};
    if (start.is_none()) {
        Working working(self.mutex);
        gibbs_from_hidden(rbm, n_steps, draws, chains, clamp);
        return;
    }
    const Rows& rows = py::cast<const PyRows&>(start).rows;
    require_inputs(rbm, Direction::up, rows);
    require(rows.rows() == chains.v.rows, "start and v must have the same number of rows");
    Working working(self.mutex);
    gibbs_from_visible(rbm, all_of(rows), n_steps, draws, chains, clamp);
}

Path path_view(const Rbm& rbm, const py::array& base_bias, const py::array& betas) {
    require(betas.ndim() == 1 && betas.shape(0) >= 1, "betas must be one-dimensional, and some");
    const Index count = betas.shape(0);
    return {vector_view<const float>(base_bias, rbm.n_visible(), "base_bias"),
            vector_view<const double>(betas, count, "betas"), count};
}

void anneal_chains(PyRbm& self, const py::array& base_bias, const py::array& betas, const py::array& v,
                   const py::array& h, std::uint64_t seed, std::uint64_t step, std::uint32_t row0,
                   const py::array& log_weights, const py::object& mask, const py::object& values) {
    Rbm& rbm = self.rbm;
    const Path path = path_view(rbm, base_bias, betas);
    const Chains chains = chain_views(rbm, v, h, py::none(), py::none());
    const Clamp clamp = clamp_views(rbm, mask, values, chains.v.rows);
    double* weights = vector_view<double>(log_weights, chains.v.rows, "log_weights");
    Working working(self.mutex);
    anneal(rbm, path, {seed, step, row0}, chains.v, chains.h, clamp, weights);
}

void temper_chains(PyRbm& self, const py::array& base_bias, const py::array& betas, const py::array& v,
                   const py::array& h, Index n_rounds, std::uint64_t seed, std::uint64_t step,
                   const py::array& exchanges, const py::object& mask, const py::object& values) {
    Rbm& rbm = self.rbm;
    const Path path = path_view(rbm, base_bias, betas);
    const Chains chains = chain_views(rbm, v, h, py::none(), py::none());
    require(chains.v.rows >= 1 && chains.v.rows % path.count == 0, "there must be as many chains at each temperature");
    require(n_rounds >= 0, "n_rounds must not be negative");
    const Clamp clamp = clamp_views(rbm, mask, values, chains.v.rows);
    const auto counts = matrix_view<std::int64_t>(exchanges, "exchanges");
    require_shape(counts, 2, path.count - 1, "exchanges");
    Working working(self.mutex);
    temper(rbm, path, n_rounds, 0, {seed, step, 0}, chains.v, chains.h, clamp, counts);
}

void cd_gradient(PyRbm& self, const PyRows& data, const py::array& chains, Index n_gibbs_steps, bool persistent,
                 std::uint64_t seed, std::uint64_t step, const py::array& dw, const py::array& db,
                 const py::array& dc) {
    Rbm& rbm = self.rbm;
    const Rows& rows = data.rows;
    require_inputs(rbm, Direction::up, rows);
    require(n_gibbs_steps >= 1, "n_gibbs_steps must be positive");
    const auto h = bits_view<std::uint64_t>(chains, rbm.n_hidden(), "chains");
    require(rows.rows() >= 1 && h.rows >= 1, "there must be at least one row and one chain");
    require(persistent || h.rows == rows.rows(), "CD runs one chain a row");
    const auto w_out = matrix_view<float>(dw, "dW");
    require_shape(w_out, rbm.n_visible(), rbm.n_hidden(), "dW");
    float* b_out = vector_view<float>(db, rbm.n_visible(), "db");
    float* c_out = vector_view<float>(dc, rbm.n_hidden(), "dc");

    Working working(self.mutex);
    ContrastiveDivergence::require_finite_biases(rbm);
    ContrastiveDivergence cd;
    cd.run(rbm, rbm, all_of(rows), h, {n_gibbs_steps, persistent, seed, step});
    cd.gradient(w_out, b_out, c_out, rbm.n_threads());
}

void add_machine(py::module_& m) {
    py::class_<PyRbm>(m, "Rbm")
        .def(py::init([](const py::array& w, const py::array& b, const py::array& c, const std::string& precision,
                         int n_threads, Index n_labels) {
                 const Parameters p = parameters(w, b, c, false);
                 require_labels(p, n_labels);
                 return std::make_unique<PyRbm>(p, parse_precision(precision), n_threads, n_labels);
             }),
             py::arg("W"), py::arg("b"), py::arg("c"), py::arg("precision"), py::arg("n_threads"),
             py::arg("n_labels") = 0, py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>())
        .def("propup",
             [](PyRbm& r, const PyRows& v, const py::array& out) { propagate(r, Direction::up, v, out, true); })
        .def("propdown",
             [](PyRbm& r, const PyRows& h, const py::array& out) { propagate(r, Direction::down, h, out, true); })
        .def("preactivations",
             [](PyRbm& r, const PyRows& v, const py::array& out) { propagate(r, Direction::up, v, out, false); })
        .def("visible_preactivations",
             [](PyRbm& r, const PyRows& h, const py::array& out) { propagate(r, Direction::down, h, out, false); })
        .def(
            "draw_hidden",
            [](PyRbm& r, const PyRows& v, const py::array& out, std::uint64_t seed, std::uint64_t step,
               std::uint32_t stream,
               std::uint32_t row0) { draw_states(r, Direction::up, v, out, seed, step, stream, row0); },
            py::arg("v"), py::arg("out"), py::arg("seed"), py::arg("step"), py::arg("stream"), py::arg("row0"))
        .def(
            "draw_visible",
            [](PyRbm& r, const PyRows& h, const py::array& out, std::uint64_t seed, std::uint64_t step,
               std::uint32_t stream,
               std::uint32_t row0) { draw_states(r, Direction::down, h, out, seed, step, stream, row0); },
            py::arg("h"), py::arg("out"), py::arg("seed"), py::arg("step"), py::arg("stream"), py::arg("row0"))
        .def("gibbs", &gibbs, py::arg("start"), py::arg("v"), py::arg("h"), py::arg("n_steps"), py::arg("seed"),
             py::arg("step"), py::arg("row0"), py::arg("v_probabilities"), py::arg("h_probabilities"),
             py::arg("mask") = py::none(), py::arg("values") = py::none())
        .def("anneal", &anneal_chains, py::arg("base_bias"), py::arg("betas"), py::arg("v"), py::arg("h"),
             py::arg("seed"), py::arg("step"), py::arg("row0"), py::arg("log_weights"), py::arg("mask") = py::none(),
             py::arg("values") = py::none())
        .def("temper", &temper_chains, py::arg("base_bias"), py::arg("betas"), py::arg("v"), py::arg("h"),
             py::arg("n_rounds"), py::arg("seed"), py::arg("step"), py::arg("exchanges"), py::arg("mask") = py::none(),
             py::arg("values") = py::none())
        .def("free_energy",
             [](PyRbm& self, const PyRows& data, const py::array& out) {
                 const Rows& v = data.rows;
                 require_inputs(self.rbm, Direction::up, v);
                 double* to = vector_view<double>(out, v.rows(), "out");
                 Working working(self.mutex);
                 free_energy(self.rbm, all_of(v), to);
             })
        .def("pseudo_likelihood",
             [](PyRbm& self, const PyRows& data, std::uint64_t seed, std::uint64_t step, Index n_flips,
                const py::array& out) {
                 const Rows& v = data.rows;
                 require_inputs(self.rbm, Direction::up, v);
                 require(self.rbm.labels().begin >= 1, "there is no unit to flip");
                 require(n_flips >= 1 && n_flips <= 4096, "n_flips must be between 1 and 4096");
                 double* to = vector_view<double>(out, v.rows(), "out");
                 Working working(self.mutex);
                 pseudo_likelihood(self.rbm, all_of(v), seed, step, n_flips, to);
             })
        .def("exact_pseudo_likelihood",
             [](PyRbm& self, const PyRows& data, Index begin, Index count, const py::array& out) {
                 const Rows& v = data.rows;
                 require_inputs(self.rbm, Direction::up, v);
                 require(self.rbm.labels().begin >= 1, "there is no unit to flip");
                 require(begin >= 0 && count >= 0 && begin <= v.rows() - count, "the rows must be some of those given");
                 double* to = vector_view<double>(out, count, "out");
                 Working working(self.mutex);
                 exact_pseudo_likelihood(self.rbm, {v, begin, count}, to);
             })
        .def("cd_gradient", &cd_gradient, py::arg("rows"), py::arg("chains"), py::arg("n_gibbs_steps"),
             py::arg("persistent"), py::arg("seed"), py::arg("step"), py::arg("dW"), py::arg("db"), py::arg("dc"));
}

RowTraits row_traits(const TrainingState& state, const py::object& weights, const py::object& observed, Index n_visible,
                     Index n_labels) {
    RowTraits traits;
    require(state.completions.empty() == observed.is_none(), "completions and observed come together");
    if (!observed.is_none()) {
        require(n_labels == 0, "labels can't be missing");
        traits.observed = bits_view<const std::uint64_t>(py::cast<py::array>(observed), n_visible, "observed");
        traits.rows = traits.observed.rows;
        require(traits.rows == state.completions.rows, "completions and observed must have as many rows");
    }
    if (!weights.is_none()) {
        const auto array = py::cast<py::array>(weights);
        require(traits.rows < 0 || traits.rows == array.size(), "weights and completions must have as many rows");
        traits.rows = array.size();
        traits.weights = vector_view<const double>(array, traits.rows, "weights");
    }
    return traits;
}

// An array with a value for each of the weights.
View<float> weights_like(PyTrainer& self, const py::array& values, const char* name) {
    const auto view = matrix_view<float>(values, name);
    require_shape(view, self.trainer.rbm().n_visible(), self.trainer.rbm().n_hidden(), name);
    return view;
}

void add_trainer(py::module_& m) {
    py::class_<PyTrainer>(m, "Trainer")
        .def(py::init([](const py::array& w, const py::array& b, const py::array& c, const py::array& chains,
                         const py::object& w_velocity, const py::object& b_velocity, const py::object& c_velocity,
                         const py::object& completions, Index n_gibbs_steps, bool persistent, double l1, double l2,
                         std::uint64_t seed, Index n_labels, const std::string& precision, int n_threads,
                         const py::object& weights, const py::object& observed) {
                 const Parameters p = parameters(w, b, c, true);
                 require_labels(p, n_labels);
                 const Index n_visible = p.w.rows, n_hidden = p.w.cols;
                 require(n_visible >= 1 && n_hidden >= 1, "a machine has at least one unit on each side");
                 require(n_gibbs_steps >= 1, "n_gibbs_steps must be positive");
                 TrainingState state;
                 state.chains = bits_view<std::uint64_t>(chains, n_hidden, "chains");
                 require(state.chains.rows >= 1, "there must be at least one chain");
                 if (!w_velocity.is_none()) {
                     state.w_velocity = matrix_view<float>(py::cast<py::array>(w_velocity), "W_velocity");
                     require_shape(state.w_velocity, n_visible, n_hidden, "W_velocity");
                     state.b_velocity = vector_view<float>(py::cast<py::array>(b_velocity), n_visible, "b_velocity");
                     state.c_velocity = vector_view<float>(py::cast<py::array>(c_velocity), n_hidden, "c_velocity");
                 }
                 if (!completions.is_none())
                     state.completions =
                         bits_view<std::uint64_t>(py::cast<py::array>(completions), n_visible, "completions");
                 const RowTraits traits = row_traits(state, weights, observed, n_visible, n_labels);
                 const Precision which = parse_precision(precision);
                 const TrainingOptions options{n_gibbs_steps, persistent, l1, l2, seed, n_labels};
                 return std::make_unique<PyTrainer>(p, state, options, which, n_threads, traits);
             }),
             py::arg("W"), py::arg("b"), py::arg("c"), py::arg("chains"), py::arg("W_velocity"), py::arg("b_velocity"),
             py::arg("c_velocity"), py::arg("completions"), py::arg("n_gibbs_steps"), py::arg("persistent"),
             py::arg("l1"), py::arg("l2"), py::arg("seed"), py::arg("n_labels"), py::arg("precision"),
             py::arg("n_threads"), py::arg("weights") = py::none(), py::arg("observed") = py::none(),
             py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>(), py::keep_alive<1, 5>(),
             py::keep_alive<1, 6>(), py::keep_alive<1, 7>(), py::keep_alive<1, 8>(), py::keep_alive<1, 9>(),
             py::keep_alive<1, 18>(), py::keep_alive<1, 19>())
        .def(
            "center",
            [](PyTrainer& self, const py::array& v_offset, const py::array& h_offset, double rate) {
                const Rbm& rbm = self.trainer.rbm();
                self.trainer.center(vector_view<float>(v_offset, rbm.n_visible(), "v_offset"),
                                    vector_view<float>(h_offset, rbm.n_hidden(), "h_offset"), rate);
            },
            py::arg("v_offset"), py::arg("h_offset"), py::arg("rate"), py::keep_alive<1, 2>(), py::keep_alive<1, 3>())
        .def(
            "adapt",
            [](PyTrainer& self, const py::array& w_square, const py::array& b_square, const py::array& c_square,
               const py::array& updates, double beta_1, double beta_2, double epsilon) {
                Adaptation adaptation;
                adaptation.w_square = weights_like(self, w_square, "W_square");
                adaptation.b_square = vector_view<float>(b_square, adaptation.w_square.rows, "b_square");
                adaptation.c_square = vector_view<float>(c_square, adaptation.w_square.cols, "c_square");
                adaptation.updates = vector_view<std::int64_t>(updates, 1, "updates");
                adaptation.beta_1 = beta_1;
                adaptation.beta_2 = beta_2;
                adaptation.epsilon = epsilon;
                self.trainer.adapt(adaptation);
            },
            py::arg("W_square"), py::arg("b_square"), py::arg("c_square"), py::arg("updates"), py::arg("beta_1"),
            py::arg("beta_2"), py::arg("epsilon"), py::keep_alive<1, 2>(), py::keep_alive<1, 3>(),
            py::keep_alive<1, 4>(), py::keep_alive<1, 5>())
        .def(
            "make_sparse",
            [](PyTrainer& self, const py::array& activity, double target, double cost, double decay) {
                const Index n_hidden = self.trainer.rbm().n_hidden();
                self.trainer.make_sparse({vector_view<float>(activity, n_hidden, "activity"), target, cost, decay});
            },
            py::arg("activity"), py::arg("target"), py::arg("cost"), py::arg("decay"), py::keep_alive<1, 2>())
        .def(
            "limit_norms", [](PyTrainer& self, double most) { self.trainer.limit_norms(most); }, py::arg("most"))
        .def(
            "keep_averages",
            [](PyTrainer& self, const py::array& w, const py::array& b, const py::array& c, const py::array& counts,
               double decay) {
                Averages averages;
                averages.w = weights_like(self, w, "W");
                averages.b = vector_view<float>(b, averages.w.rows, "b");
                averages.c = vector_view<float>(c, averages.w.cols, "c");
                averages.decay = decay;
                self.trainer.keep_averages(averages, vector_view<std::int64_t>(counts, n_counts, "counts"));
            },
            py::arg("W"), py::arg("b"), py::arg("c"), py::arg("counts"), py::arg("decay"), py::keep_alive<1, 2>(),
            py::keep_alive<1, 3>(), py::keep_alive<1, 4>(), py::keep_alive<1, 5>())
        .def("restart_chains", [](PyTrainer& self) { self.trainer.restart_chains(); })
        .def(
            "temper",
            [](PyTrainer& self, const py::array& base_bias, const py::array& betas, const py::array& replicas,
               const py::array& exchanges) {
                const Path path = path_view(self.trainer.rbm(), base_bias, betas);
                const auto states = bits_view<std::uint64_t>(replicas, self.trainer.rbm().n_hidden(), "replicas");
                require(states.rows == (path.count - 1) * self.trainer.chains(),
                        "there must be a replica of each chain at each temperature but the first");
                const auto counts = matrix_view<std::int64_t>(exchanges, "exchanges");
                require_shape(counts, 2, path.count - 1, "exchanges");
                self.trainer.temper(path, states, counts);
            },
            py::arg("base_bias"), py::arg("betas"), py::arg("replicas"), py::arg("exchanges"), py::keep_alive<1, 2>(),
            py::keep_alive<1, 3>(), py::keep_alive<1, 4>(), py::keep_alive<1, 5>())
        .def(
            "keep_fast_weights",
            [](PyTrainer& self, const py::array& w, const py::array& b, const py::array& c, double rate, double decay) {
                const auto weights = weights_like(self, w, "W");
                self.trainer.keep_fast_weights(
                    {weights, vector_view<float>(b, weights.rows, "b"), vector_view<float>(c, weights.cols, "c")}, rate,
                    decay);
            },
            py::arg("W"), py::arg("b"), py::arg("c"), py::arg("rate"), py::arg("decay"), py::keep_alive<1, 2>(),
            py::keep_alive<1, 3>(), py::keep_alive<1, 4>())
        .def_property_readonly("rows_done", [](const PyTrainer& self) { return self.trainer.rows_done(); })
        .def(
            "copy_visible_states",
            [](PyTrainer& self, const py::array& out) {
                const auto to = bits_view<std::uint64_t>(out, self.trainer.rbm().n_visible(), "out");
                Working working(self.mutex);
                if (to.rows != self.trainer.last_chains())
                    throw std::invalid_argument("out must have a row for each chain of the last update");
                self.trainer.copy_visible_states(to);
            },
            py::arg("out"))
        .def(
            "updates_a_pass",
            [](PyTrainer& self, const PyRows& data, Index batch_size) {
                require_inputs(self.trainer.rbm(), Direction::up, data.rows);
                require(batch_size >= 1, "batch_size must be positive");
                return self.trainer.updates_a_pass(data.rows, batch_size);
            },
            py::arg("rows"), py::arg("batch_size"))
        .def(
            "run",
            [](PyTrainer& self, const PyRows& data, const py::object& order, Index begin, Index count, Index batch_size,
               std::uint64_t step, double learning_rate, double momentum) {
                const Rows& rows = data.rows;
                require_inputs(self.trainer.rbm(), Direction::up, rows);
                const Batch batch = batch_of(data, order, begin, count, batch_size);
                self.trainer.require_chains(std::min(batch_size, count));
                self.trainer.require_traits(rows);
                Working working(self.mutex);
                self.trainer.run(batch, batch_size, step, learning_rate, momentum);
            },
            py::arg("rows"), py::arg("order"), py::arg("begin"), py::arg("count"), py::arg("batch_size"),
            py::arg("step"), py::arg("learning_rate"), py::arg("momentum"));
}

// None where the sums could overflow.
py::object log_sum_of_states(const py::array& w, const py::array& bias, const py::array& output_bias, Index begin,
                             Index end, int n_threads) {
    const auto weights = matrix_view<const float>(w, "W");
    require(weights.rows >= 1 && weights.rows <= 40, "there must be 1 to 40 units to go through");
    const Enumeration states{weights, vector_view<const float>(bias, weights.rows, "bias"),
                             vector_view<const float>(output_bias, weights.cols, "output_bias")};
    require(begin >= 0 && begin < end && end <= states.pieces(), "the pieces must be some of those there are");
    if (!states.fits()) return py::none();
    double result;
    {
        py::gil_scoped_release release;
        result = states.log_sum(begin, end, n_threads);
    }
    return py::float_(result);
}

void force_way_named(const std::string& name) {
    const char* names[] = {"nearest", "none", "last", "all"};
    for (int way = 0; way < 4; ++way)
        if (name == names[way]) return force_way(static_cast<ForcedWay>(way));
    throw py::value_error("the way must be 'nearest', 'none', 'last' or 'all', not '" + name + "'");
}

}  // namespace

void add_rbm(py::module_& m) {
    m.def("log_sum_of_states", &log_sum_of_states, py::arg("W"), py::arg("bias"), py::arg("output_bias"),
          py::arg("begin"), py::arg("end"), py::arg("n_threads"));
    m.def("force_way", &force_way_named, py::arg("name"));
    add_machine(m);
    add_trainer(m);
}

}  // namespace harmonium::bind
