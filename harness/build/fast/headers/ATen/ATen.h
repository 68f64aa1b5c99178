// Stands for ATen/ATen.h: tensors, their methods and operators, dispatch. Left out are the functions
// of at:: (a unit gets ATen/ops/NAME.h for each that it names), the JIT's types and indexing.
#pragma once

#include <ATen/Device.h>
#include <ATen/DeviceGuard.h>
#include <ATen/DimVector.h>
#include <ATen/Dispatch.h>
#include <ATen/Formatting.h>
#include <ATen/Tensor.h>
#include <ATen/TensorGeometry.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/ATenGeneral.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Reduction.h>
#include <ATen/core/Scalar.h>
#include <c10/core/Allocator.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/Layout.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorOptions.h>
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>

// Of the standard library, what the headers that are left out would have brought: an overload that
// is missing could be answered by another one. Written when an installation is prepared.
#include <kernel_harness/types_standard.h>
