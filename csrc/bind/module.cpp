// The extension module: what it is called and what it contains.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bind/bindings.hpp"
#include "core/blas.hpp"
#include "core/isa.hpp"
#include "core/parallel.hpp"
#include "model/trainer.hpp"

namespace harmonium::bind {

namespace py = pybind11;

void require_blas() {
    if (has_sgemm()) return;
    const py::object capsule = py::module_::import("harmonium._blas").attr("sgemm_pointer");
    set_sgemm(reinterpret_cast<SgemmPointer>(py::capsule(capsule).get_pointer()));
}

}  // namespace harmonium::bind

PYBIND11_MODULE(_core, m) {
    namespace py = pybind11;
    using namespace harmonium;
    m.doc() = "The compiled kernels of harmonium. Private: use harmonium.ops.";

    py::register_exception<Diverged>(m, "Diverged", PyExc_FloatingPointError);

    m.def("available_isas", [] {
        std::vector<std::string> names;
        for (Isa isa : available_isas()) names.emplace_back(name(isa));
        return names;
    });
    m.def("active_isa", [] { return name(active_isa()); });
    m.def("set_isa", &set_active_isa, py::arg("level"));
    m.def("resolve_threads", &resolve_threads, py::arg("requested"));
    m.def("in_forked_child", &in_forked_child);

    bind::add_elementwise(m);
    bind::add_rows(m);
    bind::add_rbm(m);
    bind::add_sequential(m);
    bind::add_network(m);
}
