"""A shared array has room for half of the warps.

problem: row_sum
emulated: runtime_error
h100: any
finding: index|the shared variable
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

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

namespace cg = cooperative_groups;

namespace {

constexpr int kThreads = 128;
constexpr int kTiles = kThreads / 32;

__global__ void row_sum_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t columns) {
  const cg::thread_block block = cg::this_thread_block();
  const auto tile = cg::tiled_partition<32>(block);
  __shared__ float tile_sums[kTiles / 2];  // the bug: one element for every tile
  const float* row = input + blockIdx.x * columns;

  float sum = 0.0f;
  for (int64_t c = block.thread_rank(); c < columns; c += block.size()) {
    sum += row[c];
  }
  sum = cg::reduce(tile, sum, cg::plus<float>());
  if (tile.thread_rank() == 0) {
    tile_sums[tile.meta_group_rank()] = sum;
  }
  block.sync();
  if (tile.meta_group_rank() == 0) {
    sum = tile.thread_rank() < kTiles ? tile_sums[tile.thread_rank()] : 0.0f;
    sum = cg::reduce(tile, sum, cg::plus<float>());
    if (tile.thread_rank() == 0) {
      output[blockIdx.x] = sum;
    }
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
  row_sum_kernel<<<rows, kThreads, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="row_sum_shared_array_too_small",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
