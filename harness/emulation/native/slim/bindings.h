// Precompiled prefix of a unit that holds both code and a PYBIND11_MODULE.
#ifndef KH_SLIM_BINDINGS_H
#define KH_SLIM_BINDINGS_H

#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "code.h"

#endif
