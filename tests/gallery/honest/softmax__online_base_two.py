"""Fewer operations for the same function: maximum and sum come from one walk over the line, powers
are taken to base 2 (the logarithm of e is multiplied in after the subtraction of the maximum, so
that large inputs lose nothing), and the backward is y * (g - sum(g * y)) from the output alone.

gallery: algebra_fold
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor softmax_base_two(const torch::Tensor& input, int64_t dim);
torch::Tensor softmax_folded_gradient(
    const torch::Tensor& grad_output, const torch::Tensor& output, int64_t dim);
"""

cuda_source = r"""
#include <torch/types.h>

#include <limits>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kWarp = 32, kMaxThreads = 512;
constexpr float kLog2OfE = 1.4426950408889634f;

__device__ __forceinline__ float power_of_e(float x) { return exp2f(x * kLog2OfE); }

// The sum of exponentials relative to the largest exponent so far.
struct Exponentials {
  float maximum = -std::numeric_limits<float>::max(), sum = 0.0f;

  __device__ void add(float maximum_of_other, float sum_of_other) {
    const float larger = fmaxf(maximum, maximum_of_other);
    sum = sum * power_of_e(maximum - larger) + sum_of_other * power_of_e(maximum_of_other - larger);
    maximum = larger;
  }
};

// Reduces over a block of whole warps; every thread gets the same result.
__device__ Exponentials reduce(Exponentials mine) {
  __shared__ Exponentials warps[kMaxThreads / kWarp];
  for (int d = kWarp / 2; d > 0; d /= 2) {
    const float maximum = __shfl_xor_sync(0xffffffffu, mine.maximum, d);
    mine.add(maximum, __shfl_xor_sync(0xffffffffu, mine.sum, d));
  }
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = mine;
  __syncthreads();
  Exponentials all = warps[0];
  for (int warp = 1; warp < blockDim.x / kWarp; ++warp) {
    all.add(warps[warp].maximum, warps[warp].sum);
  }
  return all;
}

__device__ float reduce(float sum) {
  __shared__ float warps[kMaxThreads / kWarp];
  for (int d = kWarp / 2; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = sum;
  __syncthreads();
  float all = 0.0f;
  for (int warp = 0; warp < blockDim.x / kWarp; ++warp) all += warps[warp];
  return all;
}

__global__ void __launch_bounds__(kMaxThreads) softmax_base_two_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t length, int64_t inner) {
  const int64_t start = blockIdx.x / inner * length * inner + blockIdx.x % inner;
  Exponentials line;
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x) {
    line.add(input[start + i * inner], 1.0f);
  }
  line = reduce(line);
  const float factor = 1.0f / line.sum;
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x) {
    const int64_t at = start + i * inner;
    output[at] = power_of_e(input[at] - line.maximum) * factor;
  }
}

__global__ void __launch_bounds__(kMaxThreads) softmax_folded_gradient_kernel(
    const float* __restrict__ grad_output, const float* __restrict__ output,
    float* __restrict__ grad_input, int64_t length, int64_t inner) {
  const int64_t start = blockIdx.x / inner * length * inner + blockIdx.x % inner;
  float dot = 0.0f;
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x) {
    dot += grad_output[start + i * inner] * output[start + i * inner];
  }
  dot = reduce(dot);
  for (int64_t i = threadIdx.x; i < length; i += blockDim.x) {
    const int64_t at = start + i * inner;
    grad_input[at] = output[at] * (grad_output[at] - dot);
  }
}

struct Grid {
  int64_t length, inner;
  unsigned blocks, threads;

  Grid(const torch::Tensor& x, int64_t dim) : length(x.size(dim)), inner(1), threads(kWarp) {
    for (int64_t d = dim + 1; d < x.dim(); ++d) inner *= x.size(d);
    blocks = static_cast<unsigned>(x.numel() / length);
    while (threads < kMaxThreads && threads * 8 < length) threads *= 2;
  }
};

}  // namespace

torch::Tensor softmax_base_two(const torch::Tensor& input, int64_t dim) {
  TORCH_CHECK(input.is_cuda() && input.is_contiguous(), "softmax: expected a dense CUDA tensor");
  const c10::cuda::CUDAGuard guard(input.device());
  auto output = torch::empty(input.sizes(), input.options());
  const Grid grid(input, dim);
  softmax_base_two_kernel<<<grid.blocks, grid.threads, 0, at::cuda::getCurrentCUDAStream()>>>(
      input.data_ptr<float>(), output.data_ptr<float>(), grid.length, grid.inner);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor softmax_folded_gradient(
    const torch::Tensor& grad_output, const torch::Tensor& output, int64_t dim) {
  TORCH_CHECK(
      grad_output.is_contiguous() && output.is_contiguous(), "softmax: expected dense tensors");
  const c10::cuda::CUDAGuard guard(output.device());
  auto grad_input = torch::empty(output.sizes(), output.options());
  const Grid grid(output, dim);
  softmax_folded_gradient_kernel<<<
      grid.blocks, grid.threads, 0, at::cuda::getCurrentCUDAStream()>>>(
      grad_output.data_ptr<float>(), output.data_ptr<float>(), grad_input.data_ptr<float>(),
      grid.length, grid.inner);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

extension = load_inline(
    name="softmax_base_two",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_base_two", "softmax_folded_gradient"],
)


class SoftmaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        ctx.dim = dim % x.dim()
        output = extension.softmax_base_two(x.contiguous(), ctx.dim)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        return extension.softmax_folded_gradient(grad_output.contiguous(), output, ctx.dim), None


class ModelNew(nn.Module):
    """Normalises exponentials to sum to one."""

    def __init__(self, dim: int = 1):
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SoftmaxFunction.apply(x, self.dim)
