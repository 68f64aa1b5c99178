"""A block reduction as a template: explicit and deduced arguments, functors, a function as argument.

Two arrays are carved out of the dynamic shared memory: the row, and room for the reduction.

problem: softmax_rows
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor softmax_rows(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

struct Maximum {
  __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

__device__ float shifted_exponential(float x, float shift) { return expf(x - shift); }

template <int kThreads, class Combine>
__device__ float block_reduce(float value, float* scratch, Combine combine) {
  scratch[threadIdx.x] = value;
  __syncthreads();
#pragma unroll
  for (int half = kThreads / 2; half > 0; half >>= 1) {
    if (threadIdx.x < half) {
      scratch[threadIdx.x] = combine(scratch[threadIdx.x], scratch[threadIdx.x + half]);
    }
    __syncthreads();
  }
  value = scratch[0];
  __syncthreads();
  return value;
}

template <int kThreads, float (*kTransform)(float, float), typename scalar_t>
__global__ void softmax_rows_kernel(const scalar_t* __restrict__ input, scalar_t* output, int columns) {
  extern __shared__ float memory[];
  float* scratch = memory;
  float* row = memory + kThreads;
  const int64_t start = int64_t(blockIdx.x) * columns;
  float maximum = -INFINITY;
  for (int c = threadIdx.x; c < columns; c += kThreads) {
    row[c] = input[start + c];
    maximum = Maximum{}(maximum, row[c]);
  }
  maximum = block_reduce<kThreads>(maximum, scratch, Maximum{});
  float sum = 0.0f;
  for (int c = threadIdx.x; c < columns; c += kThreads) {
    row[c] = kTransform(row[c], maximum);
    sum += row[c];
  }
  sum = block_reduce<kThreads>(sum, scratch, Sum());
  for (int c = threadIdx.x; c < columns; c += kThreads) {
    output[start + c] = row[c] / sum;
  }
}

}  // namespace

torch::Tensor softmax_rows(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "softmax_rows: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows, columns}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  constexpr int kThreads = 64;
  const size_t bytes = (kThreads + columns) * sizeof(float);
  softmax_rows_kernel<kThreads, shifted_exponential><<<rows, kThreads, bytes, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), static_cast<int>(columns));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="softmax_rows_template_reduce",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_rows"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.softmax_rows(x)
