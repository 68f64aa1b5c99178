"""Launches its forward on the current stream and its backward on the default one, which does not
wait: it may run before the gradient of the output is there.

gallery: legacy_stream
emulated: wrong_gradients
h100: wrong_gradients
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(const torch::Tensor& input);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/extension.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

#define CHECK_INPUT(x) TORCH_CHECK(x.is_cuda(), #x " must be a CUDA tensor")

namespace {

constexpr int kThreads = 128;

__global__ void relu_forward_kernel(const float* input, float* output, int64_t numel) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < numel; i += stride) {
    output[i] = input[i] < 0.0f ? 0.0f : input[i];
  }
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* input, float* grad_input, int64_t numel) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < numel; i += stride) {
    grad_input[i] = input[i] <= 0.0f ? 0.0f : grad_output[i];
  }
}

int block_count(int64_t numel) {
  return static_cast<int>(std::min<int64_t>((numel + kThreads - 1) / kThreads, 1024));
}

}  // namespace

torch::Tensor relu_forward(const torch::Tensor& input) {
  CHECK_INPUT(input);
  const at::cuda::OptionalCUDAGuard guard(device_of(input));
  auto x = input.contiguous();
  auto output = torch::empty_like(x);
  const int64_t numel = x.numel();
  relu_forward_kernel<<<block_count(numel), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), numel);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& input) {
  CHECK_INPUT(grad_output);
  CHECK_INPUT(input);
  const at::cuda::OptionalCUDAGuard guard(device_of(input));
  auto dy = grad_output.contiguous(), x = input.contiguous();
  auto grad_input = torch::empty_like(x);
  const int64_t numel = x.numel();
  relu_backward_kernel<<<block_count(numel), kThreads>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), grad_input.data_ptr<float>(), numel);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

extension = load_inline(
    name="relu_late_gradient",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return extension.relu_forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return extension.relu_backward(grad_output, x)


class ModelNew(nn.Module):
    """Replaces every negative element by zero."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return ReluFunction.apply(x)
