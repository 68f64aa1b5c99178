"""Names a function to be bound that no text declares: the kernel was renamed and the list of
functions was not.

gallery: undeclared_function
emulated: build_failed
h100: build_failed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(const torch::Tensor& input);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 256;

__global__ void relu_forward_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t numel) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < numel) {
    output[i] = input[i] <= 0.0f ? 0.0f : input[i];
  }
}

__global__ void relu_backward_kernel(
    const float* __restrict__ grad_output,
    const float* __restrict__ output,
    float* __restrict__ grad_input,
    int64_t numel) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < numel) {
    grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
  }
}

int block_count(int64_t numel) {
  return static_cast<int>((numel + kThreads - 1) / kThreads);
}

}  // namespace

torch::Tensor relu_forward(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda(), "relu: input must be a CUDA tensor");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  if (x.numel() == 0) {
    return output;
  }
  relu_forward_kernel<<<block_count(x.numel()), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), x.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
  TORCH_CHECK(grad_output.sizes() == output.sizes(), "relu: shapes differ");
  const c10::cuda::CUDAGuard guard(output.device());
  const auto dy = grad_output.contiguous();
  auto grad_input = torch::empty(output.sizes(), output.options());
  if (output.numel() == 0) {
    return grad_input;
  }
  relu_backward_kernel<<<
      block_count(output.numel()), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(),
      output.data_ptr<float>(),
      grad_input.data_ptr<float>(),
      output.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

extension = load_inline(
    name="relu_kernels",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward", "relu_forward_inplace"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        output = extension.relu_forward(x)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor) -> torch.Tensor:
        (output,) = ctx.saved_tensors
        return extension.relu_backward(grad_output, output)


class ModelNew(nn.Module):
    """Replaces every negative element by zero."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
