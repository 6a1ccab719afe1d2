// What each file of bindings adds to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace harmonium::bind {

void add_elementwise(pybind11::module_& m);  // functions of arrays: activations, draws, bits, sgemm
void add_rows(pybind11::module_& m);  // Rows
void add_rbm(pybind11::module_& m);  // Rbm, cd_gradient, Trainer
void add_sequential(pybind11::module_& m);  // SequentialTrainer
void add_network(pybind11::module_& m);  // Network

// Hands SciPy's BLAS to the core, once. Importing it costs more than importing harmonium, so only the float32 path
// does.
void require_blas();

}  // namespace harmonium::bind
