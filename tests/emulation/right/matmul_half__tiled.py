"""Half precision in shared tiles, sums in float, launched through cudaLaunchKernel.

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

__global__ void matmul_half_kernel(
    const __half* __restrict__ a, const __half* __restrict__ b, __half* __restrict__ c, int m, int n, int k) {
  __shared__ __half a_tile[kTile][kTile];
  __shared__ __half b_tile[kTile][kTile];
  const int row = blockIdx.y * kTile + threadIdx.y;
  const int column = blockIdx.x * kTile + threadIdx.x;
  float sum = 0.0f;
  for (int k0 = 0; k0 < k; k0 += kTile) {
    const int a_column = k0 + threadIdx.x, b_row = k0 + threadIdx.y;
    a_tile[threadIdx.y][threadIdx.x] =
        row < m && a_column < k ? a[int64_t(row) * k + a_column] : __float2half(0.0f);
    b_tile[threadIdx.y][threadIdx.x] =
        b_row < k && column < n ? b[int64_t(b_row) * n + column] : __float2half(0.0f);
    __syncthreads();
    for (int i = 0; i < kTile; ++i) {
      sum += __half2float(a_tile[threadIdx.y][i]) * __half2float(b_tile[i][threadIdx.x]);
    }
    __syncthreads();
  }
  if (row < m && column < n) {
    c[int64_t(row) * n + column] = __float2half(sum);
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
  const dim3 grid((n + kTile - 1) / kTile, (m + kTile - 1) / kTile);
  void* args[] = {&a_data, &b_data, &c_data, &m, &n, &k};
  C10_CUDA_CHECK(cudaLaunchKernel((void*)matmul_half_kernel, grid, block, args, 0, stream));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="matmul_half_tiled",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["matmul_half"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, a: torch.Tensor, b: torch.Tensor):
        return extension.matmul_half(a, b)
