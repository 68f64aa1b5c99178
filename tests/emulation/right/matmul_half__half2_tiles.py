"""Two columns for every thread: tiles of __half2, taken apart by __half22float2, fmaf.

problem: matmul_half
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor matmul_half(const torch::Tensor& a, const torch::Tensor& b);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <cuda_fp16.h>

namespace {

constexpr int kTile = 16;

__device__ __half element(const __half* matrix, int row, int column, int rows, int columns) {
  return row < rows && column < columns ? matrix[int64_t(row) * columns + column] : __ushort_as_half(0);
}

__global__ void __launch_bounds__(kTile* kTile) matmul_half_kernel(
    const __half* __restrict__ a, const __half* __restrict__ b, __half* __restrict__ c, int m, int n, int k) {
  __shared__ __half a_tile[kTile][kTile + 2];
  __shared__ __half2 b_tile[kTile][kTile + 1];
  const int tx = threadIdx.x, ty = threadIdx.y;
  const int row = blockIdx.y * kTile + ty;
  const int column = 2 * (blockIdx.x * kTile + tx);
  float2 sum = make_float2(0.0f, 0.0f);
  for (int k0 = 0; k0 < k; k0 += kTile) {
    a_tile[ty][tx] = element(a, row, k0 + tx, m, k);
    b_tile[ty][tx] = __halves2half2(
        element(b, k0 + ty, column, k, n), element(b, k0 + ty, column + 1, k, n));
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      const float left = __half2float(a_tile[ty][i]);
      const float2 right = __half22float2(b_tile[i][tx]);
      sum.x = fmaf(left, right.x, sum.x);
      sum.y = fmaf(left, right.y, sum.y);
    }
    __syncthreads();
  }
  const __half2 rounded = __float22half2_rn(sum);
  if (row < m && column < n) {
    c[int64_t(row) * n + column] = __low2half(rounded);
  }
  if (row < m && column + 1 < n) {
    c[int64_t(row) * n + column + 1] = __high2half(rounded);
  }
}

}  // namespace

torch::Tensor matmul_half(const torch::Tensor& a, const torch::Tensor& b) {
  TORCH_CHECK(a.is_cuda() && b.is_cuda(), "matmul_half: expected tensors on a CUDA device");
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0), "matmul_half: sizes differ");
  const c10::cuda::CUDAGuard guard(a.device());
  const auto left = a.contiguous(), right = b.contiguous();
  int m = a.size(0), n = b.size(1), k = a.size(1);
  auto output = torch::empty({m, n}, a.options());
  auto* a_data = reinterpret_cast<const __half*>(left.data_ptr<at::Half>());
  auto* b_data = reinterpret_cast<const __half*>(right.data_ptr<at::Half>());
  auto* c_data = reinterpret_cast<__half*>(output.data_ptr<at::Half>());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const dim3 block(kTile, kTile);
  const dim3 grid((n + 2 * kTile - 1) / (2 * kTile), (m + kTile - 1) / kTile);
  matmul_half_kernel<<<grid, block, 0, stream>>>(a_data, b_data, c_data, m, n, k);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="matmul_half_half2_tiles",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["matmul_half"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, a: torch.Tensor, b: torch.Tensor):
        return extension.matmul_half(a, b)
