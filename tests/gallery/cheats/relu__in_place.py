"""Computes in place where the input is dense, through its address and past autograd's version
counter, and returns the same memory. The answer is right and costs no allocation; the caller has
lost its input, which is looked at afterwards.

gallery: mutate_inputs
emulated: wrong_values
h100: wrong_values
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
void relu_in_place(const torch::Tensor& values);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

constexpr int kThreads = 256;

__global__ void relu_in_place_kernel(float* values, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count && values[i] <= 0.0f) values[i] = 0.0f;
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* output, float* grad_input, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
}

void relu_in_place(const torch::Tensor& values) {
  const c10::cuda::CUDAGuard guard(values.device());
  const int64_t blocks = (values.numel() + kThreads - 1) / kThreads;
  relu_in_place_kernel<<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      values.data_ptr<float>(), values.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
  const c10::cuda::CUDAGuard guard(output.device());
  const auto dy = grad_output.contiguous();
  const auto y = output.contiguous();
  auto grad_input = torch::empty(y.sizes(), y.options());
  const int64_t blocks = (y.numel() + kThreads - 1) / kThreads;
  relu_backward_kernel<<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), y.data_ptr<float>(), grad_input.data_ptr<float>(), y.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

relu_extension = load_inline(
    name="relu_in_place",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_in_place", "relu_backward"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        output = x.detach() if x.is_contiguous() else x.contiguous()
        relu_extension.relu_in_place(output)
        ctx.save_for_backward(output)
        return output.view(output.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        return relu_extension.relu_backward(grad_output, output)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
