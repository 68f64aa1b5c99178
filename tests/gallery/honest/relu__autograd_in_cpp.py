"""ReLU as a torch::autograd::Function in C++: Python sees one function, and has no backward.

gallery: autograd_in_cpp
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = r"""
#include <torch/extension.h>

void launch_rectify(const torch::Tensor& x, const torch::Tensor& y);
void launch_gate(const torch::Tensor& grad, const torch::Tensor& y, const torch::Tensor& grad_x);

class Rectify : public torch::autograd::Function<Rectify> {
 public:
  static torch::Tensor forward(
      torch::autograd::AutogradContext* context, const torch::Tensor& given) {
    const auto x = given.contiguous();
    auto y = torch::empty_like(x);
    launch_rectify(x, y);
    context->save_for_backward({y});
    return y;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto y = context->get_saved_variables()[0];
    auto grad_x = torch::empty_like(y);
    launch_gate(gradients[0].contiguous(), y, grad_x);
    return {grad_x};
  }
};

torch::Tensor rectify(const torch::Tensor& x) {
  return Rectify::apply(x);
}
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 256;

__global__ void rectify_kernel(
    const float* __restrict__ x, float* __restrict__ y, int64_t elements) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < elements) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

__global__ void gate_kernel(
    const float* __restrict__ grad, const float* __restrict__ y, float* __restrict__ grad_x,
    int64_t elements) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < elements) grad_x[i] = y[i] <= 0.0f ? 0.0f : grad[i];
}

}  // namespace

void launch_rectify(const torch::Tensor& x, const torch::Tensor& y) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t elements = x.numel();
  if (elements == 0) return;
  rectify_kernel<<<
      (elements + kThreads - 1) / kThreads, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), y.data_ptr<float>(), elements);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void launch_gate(const torch::Tensor& grad, const torch::Tensor& y, const torch::Tensor& grad_x) {
  const c10::cuda::CUDAGuard guard(y.device());
  const int64_t elements = y.numel();
  if (elements == 0) return;
  gate_kernel<<<
      (elements + kThreads - 1) / kThreads, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      grad.data_ptr<float>(), y.data_ptr<float>(), grad_x.data_ptr<float>(), elements);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}
"""

extension = load_inline(
    name="relu_autograd_in_cpp",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["rectify"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return extension.rectify(x)
