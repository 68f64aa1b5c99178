"""Half a warp for every row: tiles of 16 threads that shuffle and reduce, and rsqrtf.

problem: rms_norm
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor rms_norm(const torch::Tensor& input, const torch::Tensor& weight, double eps);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <cooperative_groups.h>

namespace cg = cooperative_groups;

namespace {

constexpr int kThreads = 64;

template <class Tile>
__device__ float tile_sum(const Tile& tile, float value) {
  for (int distance = tile.size() / 2; distance > 0; distance /= 2) {
    value += tile.shfl_xor(value, distance);
  }
  return value;
}

__global__ void rms_norm_kernel(
    const float* __restrict__ input, const float* __restrict__ weight, float* __restrict__ output, int rows,
    int features, float eps) {
  const auto tile = cg::tiled_partition<16>(cg::this_thread_block());
  const int row = blockIdx.x * (kThreads / 16) + tile.meta_group_rank();
  if (row >= rows) return;
  const float* x = input + int64_t(row) * features;
  float squares = 0.0f;
  for (int i = tile.thread_rank(); i < features; i += tile.size()) {
    squares = fmaf(x[i], x[i], squares);
  }
  squares = tile_sum(tile, squares);
  float factor = 0.0f;
  if (tile.thread_rank() == 0) {
    factor = rsqrtf(squares / features + eps);
  }
  factor = tile.shfl(factor, 0);
  tile.sync();
  for (int i = tile.thread_rank(); i < features; i += tile.size()) {
    output[int64_t(row) * features + i] = x[i] * factor * weight[i];
  }
}

}  // namespace

torch::Tensor rms_norm(const torch::Tensor& input, const torch::Tensor& weight, double eps) {
  TORCH_CHECK(input.is_cuda() && weight.is_cuda(), "rms_norm: expected tensors on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous(), w = weight.contiguous();
  const int features = w.numel(), rows = x.numel() / features;
  auto output = torch::empty(x.sizes(), x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  constexpr int kRows = kThreads / 16;
  rms_norm_kernel<<<(rows + kRows - 1) / kRows, kThreads, 0, stream>>>(
      x.data_ptr<float>(), w.data_ptr<float>(), output.data_ptr<float>(), rows, features,
      static_cast<float>(eps));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="rms_norm_tile16",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["rms_norm"],
)


class ModelNew(nn.Module):
    def __init__(self, features: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.eps = eps

    def forward(self, x: torch.Tensor):
        return extension.rms_norm(x, self.weight, self.eps)
