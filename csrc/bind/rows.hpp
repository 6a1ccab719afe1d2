// Rows of data as Python hands them in, and what all objects that work on them share.
#pragma once

#include <pybind11/pybind11.h>

#include <mutex>

#include "model/rows.hpp"

namespace harmonium::bind {

namespace py = pybind11;

// Releases the GIL, then keeps other Python threads out of an object whose scratch a call uses.
class Working {
  public:
    explicit Working(std::mutex& mutex) : lock_(mutex) {}

  private:
    py::gil_scoped_release release_;
    std::lock_guard<std::mutex> lock_;
};

// Rows with the arrays they look into. (keep_alive would do, but it is applied to arguments of the wrong type too,
// before the call is refused, and not every object can be kept so.)
struct PyRows {
    Rows rows;
    py::tuple owners;
};

// Minibatches of rows begin … begin + count − 1, or of an order of them; everything checked. The order must outlive it.
Batch batch_of(const PyRows& data, const py::object& order, Index begin, Index count, Index batch_size);

}  // namespace harmonium::bind
