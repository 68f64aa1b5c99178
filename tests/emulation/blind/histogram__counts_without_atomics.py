"""Threads of a block count in shared memory without atomics: increments get lost on a GPU.

The emulated device runs a thread from barrier to barrier, so every increment is whole there, in
any order of threads: only a race detector could tell.

problem: histogram
emulated: passed
h100: wrong_values
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor histogram(const torch::Tensor& input, int64_t bins);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

__global__ void histogram_kernel(
    const int64_t* __restrict__ values, unsigned long long* counts, int64_t numel, int bins) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto* totals = reinterpret_cast<unsigned long long*>(memory);
  auto* copies = reinterpret_cast<unsigned int*>(totals + bins);
  for (int i = threadIdx.x; i < kWarps * bins; i += kThreads) {
    copies[i] = 0u;
  }
  __syncthreads();

  unsigned int* mine = copies + threadIdx.x / 32 * bins;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < numel;
       i += int64_t(gridDim.x) * kThreads) {
    mine[values[i]] += 1u;  // the bug: read, add and write are three steps
  }
  __syncthreads();

  for (int b = threadIdx.x; b < bins; b += kThreads) {
    totals[b] = 0;
    for (int w = 0; w < kWarps; ++w) {
      totals[b] += copies[w * bins + b];
    }
  }
  __syncthreads();
  for (int b = kThreads - 1 - threadIdx.x; b < bins; b += kThreads) {
    atomicAdd(&counts[b], totals[b]);
  }
}

}  // namespace

torch::Tensor histogram(const torch::Tensor& input, int64_t bins) {
  TORCH_CHECK(input.is_cuda(), "histogram: expected values on a CUDA device");
  TORCH_CHECK(input.scalar_type() == torch::kInt64, "histogram: expected int64 values");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t numel = x.numel();
  auto counts = torch::zeros({bins}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int64_t blocks = std::min<int64_t>((numel + kThreads - 1) / kThreads, 256);
  const size_t bytes = bins * (sizeof(unsigned long long) + kWarps * sizeof(unsigned int));
  histogram_kernel<<<blocks, kThreads, bytes, stream>>>(
      x.data_ptr<int64_t>(),
      reinterpret_cast<unsigned long long*>(counts.data_ptr<int64_t>()),
      numel,
      static_cast<int>(bins));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return counts;
}
"""

extension = load_inline(
    name="histogram_counts_without_atomics",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["histogram"],
)


class ModelNew(nn.Module):
    def __init__(self, bins: int = 32):
        super().__init__()
        self.bins = bins

    def forward(self, x: torch.Tensor):
        return extension.histogram(x, self.bins)
