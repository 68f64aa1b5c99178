"""Softmax of the last dimension, a block for each row, reduced by cub."""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor softmax_forward(torch::Tensor x);
torch::Tensor softmax_backward(torch::Tensor grad, torch::Tensor y);
"""

cuda_source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <cub/cub.cuh>

#include <limits>

constexpr int kThreads = 256;
using Reduce = cub::BlockReduce<float, kThreads>;

struct Larger {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

__global__ void forward_kernel(const float* x, float* y, int64_t columns) {
  __shared__ typename Reduce::TempStorage storage;
  __shared__ float shared;
  x += blockIdx.x * columns;
  y += blockIdx.x * columns;
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) largest = fmaxf(largest, x[c]);
  largest = Reduce(storage).Reduce(largest, Larger());
  if (threadIdx.x == 0) shared = largest;
  __syncthreads();
  largest = shared;
  float sum = 0.0f;
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) sum += expf(x[c] - largest);
  __syncthreads();
  sum = Reduce(storage).Sum(sum);
  if (threadIdx.x == 0) shared = sum;
  __syncthreads();
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) y[c] = expf(x[c] - largest) / shared;
}

__global__ void backward_kernel(const float* g, const float* y, float* dx, int64_t columns) {
  __shared__ typename Reduce::TempStorage storage;
  __shared__ float shared;
  const int64_t start = blockIdx.x * columns;
  float dot = 0.0f;
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) dot += g[start + c] * y[start + c];
  dot = Reduce(storage).Sum(dot);
  if (threadIdx.x == 0) shared = dot;
  __syncthreads();
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
    dx[start + c] = y[start + c] * (g[start + c] - shared);
  }
}

torch::Tensor softmax_forward(torch::Tensor x) {
  const c10::cuda::CUDAGuard guard(x.device());
  auto y = torch::empty_like(x);
  const int64_t columns = x.size(-1);
  if (x.numel() == 0) return y;
  forward_kernel<<<x.numel() / columns, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), y.data_ptr<float>(), columns);
  return y;
}

torch::Tensor softmax_backward(torch::Tensor grad, torch::Tensor y) {
  const c10::cuda::CUDAGuard guard(y.device());
  auto dx = torch::empty_like(y);
  const int64_t columns = y.size(-1);
  if (y.numel() == 0) return dx;
  backward_kernel<<<y.numel() / columns, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      grad.data_ptr<float>(), y.data_ptr<float>(), dx.data_ptr<float>(), columns);
  return dx;
}
"""

extension = load_inline(
    name="softmax_cub",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_forward", "softmax_backward"],
)


class SoftmaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = extension.softmax_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return extension.softmax_backward(grad_output.contiguous(), y)


class ModelNew(nn.Module):
    def __init__(self, dim: int = 1):
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.movedim(self.dim, -1).contiguous()
        return SoftmaxFunction.apply(rows).movedim(-1, self.dim)
