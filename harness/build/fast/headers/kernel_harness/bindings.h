// What a C++ unit gets for torch/extension.h, precompiled: tensors, the torch:: names of a signature,
// and the casters between C++ and Python (all of them: a missing one would be noticed only when
// called).
#ifndef KERNEL_HARNESS_BINDINGS_H
#define KERNEL_HARNESS_BINDINGS_H

#include <kernel_harness/extension_standard.h>
#include <torch/types.h>

#include <ATen/Parallel.h>
#include <torch/csrc/Device.h>
#include <torch/csrc/Dtype.h>
#include <torch/csrc/DynamicTypes.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/python_headers.h>
#include <torch/csrc/utils/pybind.h>

#endif
