"""Lanes with the same value add up before they touch memory: __ballot_sync and __match_any_sync.

Counts of a block are in dynamic shared memory, the total in 64-bit atomics.

problem: histogram
emulated: passed
h100: passed
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

__global__ void histogram_kernel(
    const int64_t* __restrict__ values, unsigned long long* counts, int64_t numel, int bins) {
  extern __shared__ unsigned int block_counts[];
  for (int b = threadIdx.x; b < bins; b += blockDim.x) {
    block_counts[b] = 0;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x - lane;
  for (int64_t base = first; base < numel; base += stride) {  // the same for all lanes of a warp
    const bool there = base + lane < numel;
    const unsigned voters = __ballot_sync(0xffffffff, there);
    if (there) {
      const int bin = static_cast<int>(values[base + lane]);
      const unsigned peers = __match_any_sync(voters, bin);
      if (lane == __ffs(peers) - 1) {
        atomicAdd(&block_counts[bin], static_cast<unsigned int>(__popc(peers)));
      }
    }
    __syncwarp();
  }
  __syncthreads();
  for (int b = threadIdx.x; b < bins; b += blockDim.x) {
    if (block_counts[b] > 0) {
      atomicAdd(&counts[b], static_cast<unsigned long long>(block_counts[b]));
    }
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
  const int blocks = static_cast<int>(std::min<int64_t>((numel + kThreads - 1) / kThreads, 512));
  histogram_kernel<<<blocks, kThreads, bins * sizeof(unsigned int), stream>>>(
      x.data_ptr<int64_t>(),
      reinterpret_cast<unsigned long long*>(counts.data_ptr<int64_t>()),
      numel,
      static_cast<int>(bins));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return counts;
}
"""

extension = load_inline(
    name="histogram_match_any",
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
