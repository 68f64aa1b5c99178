// Precompiled prefix of a main.cpp that holds nothing but declarations and the bindings made from
// them: tensors, the torch:: names that a signature can hold, and the casters between C++ and
// Python. No operators: a source that calls any needs bindings.h.
#ifndef KH_SLIM_DECLARATIONS_H
#define KH_SLIM_DECLARATIONS_H
#define KH_PREFIX declarations

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <pybind11/stl.h>

#include "aliases.h"

#endif
