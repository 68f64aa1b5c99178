"""Pads the elements with zeros to a multiple of four, so that every thread reads and writes 16
bytes, and cuts the tail off again. Python pads by torch.nn.functional.pad, which only fills and
copies.

gallery: padded_tail
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
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

constexpr int kThreads = 256;

__device__ __forceinline__ float passed_on(float gradient, float output) {
  return output <= 0.0f ? 0.0f : gradient;
}

__global__ void relu_forward_kernel(
    const float4* __restrict__ input, float4* __restrict__ output, int64_t vectors) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= vectors) return;
  const float4 x = input[i];
  output[i] = make_float4(
      passed_on(x.x, x.x), passed_on(x.y, x.y), passed_on(x.z, x.z), passed_on(x.w, x.w));
}

__global__ void relu_backward_kernel(
    const float4* __restrict__ grad_output, const float4* __restrict__ output,
    float4* __restrict__ grad_input, int64_t vectors) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= vectors) return;
  const float4 g = grad_output[i], y = output[i];
  grad_input[i] = make_float4(
      passed_on(g.x, y.x), passed_on(g.y, y.y), passed_on(g.z, y.z), passed_on(g.w, y.w));
}

int blocks_for(int64_t vectors) { return static_cast<int>((vectors + kThreads - 1) / kThreads); }

torch::Tensor relu_forward(const torch::Tensor& input) {
  const c10::cuda::CUDAGuard guard(input.device());
  auto output = torch::empty_like(input);
  const int64_t vectors = input.numel() / 4;
  relu_forward_kernel<<<blocks_for(vectors), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      reinterpret_cast<const float4*>(input.data_ptr<float>()),
      reinterpret_cast<float4*>(output.data_ptr<float>()), vectors);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
  const c10::cuda::CUDAGuard guard(output.device());
  auto grad_input = torch::empty_like(output);
  const int64_t vectors = output.numel() / 4;
  relu_backward_kernel<<<blocks_for(vectors), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      reinterpret_cast<const float4*>(grad_output.data_ptr<float>()),
      reinterpret_cast<const float4*>(output.data_ptr<float>()),
      reinterpret_cast<float4*>(grad_input.data_ptr<float>()), vectors);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

relu_extension = load_inline(
    name="relu_vectors",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)


def padded(tensor):
    """All elements and up to three zeros, at an address that is a multiple of 16."""
    flat = tensor.reshape(-1)
    return F.pad(flat, (0, 4 - flat.numel() % 4))


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        output = relu_extension.relu_forward(padded(x))
        ctx.save_for_backward(output)
        return output[: x.numel()].view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        grad_input = relu_extension.relu_backward(padded(grad_output), output)
        return grad_input[: grad_output.numel()].view(grad_output.shape)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
