"""Blocks share out the inner dimension and add their parts of the result with atomicAdd, so the
order of additions, and with it the last bits, differ from run to run within float32's rounding.

gallery: atomics_jitter
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor matmul_split_k(
    const torch::Tensor& a, const torch::Tensor& b, bool transpose_a, bool transpose_b);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kTile = 32, kRowsOfThreads = 8, kRowsPerThread = kTile / kRowsOfThreads;
constexpr int kSlice = 256;  // Inner indices of one block.

// Element (row, column) of a matrix that lies in memory as it is, or as its transpose.
template <bool transposed>
__device__ float element(const float* data, int64_t row, int64_t column, int rows, int columns) {
  if (row >= rows || column >= columns) return 0.0f;
  return data[transposed ? column * rows + row : row * columns + column];
}

template <bool transpose_a, bool transpose_b>
__global__ void matmul_split_k_kernel(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m, int n,
    int k) {
  __shared__ float a_tile[kTile][kTile + 1], b_tile[kTile][kTile + 1];
  const int x = threadIdx.x, y = threadIdx.y;
  const int first_row = blockIdx.y * kTile, first_column = blockIdx.x * kTile;
  const int begin = blockIdx.z * kSlice, end = min(k, begin + kSlice);

  float sums[kRowsPerThread] = {};
  for (int depth = begin; depth < end; depth += kTile) {
    for (int i = y; i < kTile; i += kRowsOfThreads) {
      if (transpose_a) {
        a_tile[x][i] = element<true>(a, first_row + x, depth + i, m, k);
      } else {
        a_tile[i][x] = element<false>(a, first_row + i, depth + x, m, k);
      }
      if (transpose_b) {
        b_tile[x][i] = element<true>(b, depth + x, first_column + i, k, n);
      } else {
        b_tile[i][x] = element<false>(b, depth + i, first_column + x, k, n);
      }
    }
    __syncthreads();
#pragma unroll
    for (int inner = 0; inner < kTile; ++inner) {
#pragma unroll
      for (int r = 0; r < kRowsPerThread; ++r) {
        sums[r] += a_tile[y + r * kRowsOfThreads][inner] * b_tile[inner][x];
      }
    }
    __syncthreads();
  }
  for (int r = 0; r < kRowsPerThread; ++r) {
    const int row = first_row + y + r * kRowsOfThreads, column = first_column + x;
    if (row < m && column < n) atomicAdd(c + int64_t(row) * n + column, sums[r]);
  }
}

}  // namespace

torch::Tensor matmul_split_k(
    const torch::Tensor& a, const torch::Tensor& b, bool transpose_a, bool transpose_b) {
  TORCH_CHECK(a.is_cuda() && b.is_cuda(), "matmul: expected CUDA tensors");
  const c10::cuda::CUDAGuard guard(a.device());
  const auto left = a.contiguous(), right = b.contiguous();
  const int m = a.size(transpose_a ? 1 : 0), k = a.size(transpose_a ? 0 : 1);
  const int n = b.size(transpose_b ? 0 : 1);
  TORCH_CHECK(b.size(transpose_b ? 1 : 0) == k, "matmul: inner sizes differ");
  auto c = torch::empty({m, n}, a.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cudaMemsetAsync(c.data_ptr<float>(), 0, c.nbytes(), stream));
  const auto kernel = transpose_a ? matmul_split_k_kernel<true, false>
      : transpose_b               ? matmul_split_k_kernel<false, true>
                                  : matmul_split_k_kernel<false, false>;
  const dim3 grid((n + kTile - 1) / kTile, (m + kTile - 1) / kTile, (k + kSlice - 1) / kSlice);
  kernel<<<grid, dim3(kTile, kRowsOfThreads), 0, stream>>>(
      left.data_ptr<float>(), right.data_ptr<float>(), c.data_ptr<float>(), m, n, k);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return c;
}
"""

extension = load_inline(
    name="matmul_split_k",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["matmul_split_k"],
)


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, A, B):
        ctx.save_for_backward(A, B)
        return extension.matmul_split_k(A, B, False, False)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        A, B = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad
        grad_a = extension.matmul_split_k(grad_output, B, False, True) if needs_a else None
        grad_b = extension.matmul_split_k(A, grad_output, True, False) if needs_b else None
        return grad_a, grad_b


class ModelNew(nn.Module):
    """Multiplies two matrices."""

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return MatmulFunction.apply(A, B)
