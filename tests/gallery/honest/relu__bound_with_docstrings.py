"""ReLU bound by a dictionary of names and docstrings, with every further argument that load_inline
takes: `--use_fast_math` changes no bit of a comparison.

gallery: build_arguments
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(const torch::Tensor& x);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& y);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#ifndef RELU_THREADS
#error "the build defines how long a block is"
#endif

__global__ void relu_forward_kernel(
    const float* __restrict__ x, float* __restrict__ y, int64_t elements) {
  const int64_t i = int64_t(blockIdx.x) * RELU_THREADS + threadIdx.x;
  if (i < elements) {
    const float value = __ldg(x + i);
    y[i] = value <= 0.0f ? 0.0f : value;
  }
}

__global__ void relu_backward_kernel(
    const float* __restrict__ grad_output, const float* __restrict__ y,
    float* __restrict__ grad_input, int64_t elements) {
  const int64_t i = int64_t(blockIdx.x) * RELU_THREADS + threadIdx.x;
  if (i < elements) grad_input[i] = y[i] <= 0.0f ? 0.0f : grad_output[i];
}

torch::Tensor relu_forward(const torch::Tensor& x) {
  const c10::cuda::CUDAGuard guard(x.device());
  auto y = torch::empty_like(x);
  if (const int64_t elements = x.numel(); elements > 0) {
    relu_forward_kernel<<<(elements + RELU_THREADS - 1) / RELU_THREADS, RELU_THREADS, 0,
                          at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), y.data_ptr<float>(), elements);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return y;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& y) {
  const c10::cuda::CUDAGuard guard(y.device());
  auto grad_input = torch::empty_like(y);
  if (const int64_t elements = y.numel(); elements > 0) {
    relu_backward_kernel<<<(elements + RELU_THREADS - 1) / RELU_THREADS, RELU_THREADS, 0,
                           at::cuda::getCurrentCUDAStream()>>>(
        grad_output.data_ptr<float>(), y.data_ptr<float>(), grad_input.data_ptr<float>(),
        elements);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return grad_input;
}
"""

extension = load_inline(
    "relu_bound_with_docstrings",
    [cpp_source],
    [cuda_source],
    functions={
        "relu_forward": "The larger of zero and each element; NaN stays NaN.",
        "relu_backward": "The gradient where the output is not zero.",
    },
    extra_cflags=["-O2"],
    extra_cuda_cflags=["-O3", "--use_fast_math", "-lineinfo", "-DRELU_THREADS=192"],
    with_cuda=True,
    verbose=False,
)


class ReLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = extension.relu_forward(x.contiguous())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        return extension.relu_backward(grad_output.contiguous(), *ctx.saved_tensors)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReLUFunction.apply(x)
