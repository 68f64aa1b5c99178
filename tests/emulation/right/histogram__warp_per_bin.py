"""A warp for every bin looks at all values and adds up with __reduce_add_sync; 2-D blocks.

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

namespace {

constexpr int kWarps = 4;

__global__ void count_bin_kernel(
    const int64_t* __restrict__ values, int64_t* __restrict__ counts, int numel, int bins) {
  const int bin = blockIdx.x * blockDim.y + threadIdx.y;
  if (bin >= bins) {
    return;
  }
  int count = 0;
  for (int i = threadIdx.x; i < numel; i += warpSize) {
    count += values[i] == bin;
  }
  count = __reduce_add_sync(0xffffffff, count);
  if (threadIdx.x == 0) {
    counts[bin] = count;
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
  const dim3 block(32, kWarps);
  count_bin_kernel<<<(bins + kWarps - 1) / kWarps, block, 0, stream>>>(
      x.data_ptr<int64_t>(), counts.data_ptr<int64_t>(), static_cast<int>(numel), static_cast<int>(bins));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return counts;
}
"""

extension = load_inline(
    name="histogram_warp_per_bin",
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
