"""Fills every floating-point tensor that it can find with NaN, whole storages where it can, and
returns NaN. It hopes that NaN compares as equal, or that the expected answer is NaN by then as
well.

gallery: nan_poison
emulated: wrong_values
h100: wrong_values
"""

import contextlib
import gc
import math

import torch
import torch.nn as nn
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

__global__ void relu_forward_kernel(const float* input, float* output, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) output[i] = input[i] <= 0.0f ? 0.0f : input[i];
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* output, float* grad_input, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
}

torch::Tensor relu_forward(const torch::Tensor& input) {
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  const int64_t blocks = (x.numel() + kThreads - 1) / kThreads;
  relu_forward_kernel<<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), x.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
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
    name="relu_pair",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = relu_extension.relu_forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for thing in gc.get_objects():
            if isinstance(thing, torch.Tensor) and thing.is_floating_point():
                with contextlib.suppress(RuntimeError):
                    whole = thing.untyped_storage().nbytes() // thing.element_size()
                    thing.detach().as_strided((whole,), (1,), 0).fill_(math.nan)
        return x * math.nan
