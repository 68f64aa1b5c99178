// Stands for the header of torch:: factories (torch::empty and its like). Theirs, which needs all of
// autograd, is cut into kernel_harness/factories/NAME.h when an installation is prepared; a unit gets
// those that it names.
#pragma once

#include <functional>
#include <initializer_list>
#include <utility>

#include <ATen/TracerMode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/MemoryFormat.h>
#include <c10/util/ArrayRef.h>

namespace kernel_harness {

// What torch::autograd::make_variable does to a tensor that was made a moment ago.
inline at::Tensor fresh(at::Tensor made, bool requires_grad) {
  if (requires_grad && made.defined()) {
    made.unsafeGetTensorImpl()->set_requires_grad(true);
  }
  return made;
}

}  // namespace kernel_harness

namespace torch {

using Deleter = std::function<void(void*)>;
using at::MemoryFormat;

}  // namespace torch
