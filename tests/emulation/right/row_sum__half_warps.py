"""The halves of a warp have different jobs, each with a __syncwarp of its own lanes.

The lower half sums the even columns, the upper half the odd ones.

problem: row_sum
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor row_sum(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 64;

// A tree over 16 slots of shared memory; `lanes` are the half of the warp that they belong to.
__device__ void half_warp_tree(float* slots, int rank, unsigned lanes) {
  __syncwarp(lanes);
  for (int half = 8; half > 0; half /= 2) {
    if (rank < half) {
      slots[rank] += slots[rank + half];
    }
    __syncwarp(lanes);
  }
}

__global__ void row_sum_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t rows, int64_t columns) {
  __shared__ float slots[kThreads];
  const int lane = threadIdx.x % 32, rank = lane % 16;
  const int64_t row = int64_t(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (row >= rows) {
    return;
  }
  float* mine = slots + threadIdx.x - rank;
  float sum = 0.0f;
  if (lane < 16) {
    for (int64_t c = 2 * rank; c < columns; c += 32) {
      sum += input[row * columns + c];
    }
    mine[rank] = sum;
    half_warp_tree(mine, rank, 0x0000ffffu);
  } else {
    for (int64_t c = 2 * rank + 1; c < columns; c += 32) {
      sum += input[row * columns + c];
    }
    mine[rank] = sum;
    half_warp_tree(mine, rank, 0xffff0000u);
  }
  __syncwarp();
  if (lane == 0) {
    output[row] = mine[0] + mine[16];
  }
}

}  // namespace

torch::Tensor row_sum(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "row_sum: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int blocks = (rows + kThreads / 32 - 1) / (kThreads / 32);
  row_sum_kernel<<<blocks, kThreads, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), rows, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="row_sum_half_warps",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
