"""A product with two kernels of its own: one for aligned matrices of whole 64 x 64 x 16 tiles, with
float4 loads and no masks, and one for every other size, alignment and layout.

gallery: fast_path_plus_generic
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor multiply(const torch::Tensor& a, const torch::Tensor& b);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <cstdint>

namespace {

constexpr int kSide = 64, kDepth = 16;  // a block's tile of the product, and terms per step
constexpr int kThreads = 256;           // 16 x 16, each with 4 x 4 elements
constexpr int kPlainSide = 16;

// Whole tiles of contiguous matrices: every load and store is a float4.
__global__ void __launch_bounds__(kThreads) whole_tiles_product_kernel(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ product,
    int columns, int terms) {
  __shared__ float a_tile[kDepth][kSide + 4];
  __shared__ __align__(16) float b_tile[kDepth][kSide];
  const int row0 = blockIdx.y * kSide, column0 = blockIdx.x * kSide;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const int a_row = threadIdx.x / 4, a_term = threadIdx.x % 4 * 4;
  const int b_term = threadIdx.x / 16, b_column = threadIdx.x % 16 * 4;
  float sum[4][4] = {};
  for (int k = 0; k < terms; k += kDepth) {
    const float4 from_a =
        *reinterpret_cast<const float4*>(a + int64_t(row0 + a_row) * terms + k + a_term);
    const float4 from_b =
        *reinterpret_cast<const float4*>(b + int64_t(k + b_term) * columns + column0 + b_column);
    a_tile[a_term + 0][a_row] = from_a.x;
    a_tile[a_term + 1][a_row] = from_a.y;
    a_tile[a_term + 2][a_row] = from_a.z;
    a_tile[a_term + 3][a_row] = from_a.w;
    *reinterpret_cast<float4*>(&b_tile[b_term][b_column]) = from_b;
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      const float4 right = *reinterpret_cast<const float4*>(&b_tile[d][tx * 4]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float left = a_tile[d][ty * 4 + i];
        sum[i][0] += left * right.x;
        sum[i][1] += left * right.y;
        sum[i][2] += left * right.z;
        sum[i][3] += left * right.w;
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t at = int64_t(row0 + ty * 4 + i) * columns + column0 + tx * 4;
    *reinterpret_cast<float4*>(product + at) =
        make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
  }
}

struct Strided {
  const float* data;
  int64_t row_stride, column_stride;

  __device__ float at(int64_t row, int64_t column) const {
    return data[row * row_stride + column * column_stride];
  }
};

__global__ void any_size_product_kernel(
    Strided a, Strided b, float* __restrict__ product, int64_t rows, int64_t columns,
    int64_t terms) {
  __shared__ float a_tile[kPlainSide][kPlainSide + 1], b_tile[kPlainSide][kPlainSide + 1];
  const int tx = threadIdx.x, ty = threadIdx.y;
  const int64_t row = int64_t(blockIdx.y) * kPlainSide + ty;
  const int64_t column = int64_t(blockIdx.x) * kPlainSide + tx;
  float sum = 0.0f;
  for (int64_t k = 0; k < terms; k += kPlainSide) {
    a_tile[ty][tx] = row < rows && k + tx < terms ? a.at(row, k + tx) : 0.0f;
    b_tile[ty][tx] = column < columns && k + ty < terms ? b.at(k + ty, column) : 0.0f;
    __syncthreads();
    for (int i = 0; i < kPlainSide; ++i) sum += a_tile[ty][i] * b_tile[i][tx];
    __syncthreads();
  }
  if (row < rows && column < columns) product[row * columns + column] = sum;
}

bool is_fast(const torch::Tensor& matrix) {
  const auto address = reinterpret_cast<std::uintptr_t>(matrix.data_ptr<float>());
  return matrix.is_contiguous() && address % sizeof(float4) == 0;
}

}  // namespace

torch::Tensor multiply(const torch::Tensor& a, const torch::Tensor& b) {
  TORCH_CHECK(a.is_cuda() && b.is_cuda() && a.size(1) == b.size(0), "matrices do not fit");
  const c10::cuda::CUDAGuard guard(a.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int64_t rows = a.size(0), columns = b.size(1), terms = a.size(1);
  auto product = torch::empty({rows, columns}, a.options());
  const bool whole = rows % kSide == 0 && columns % kSide == 0 && terms % kDepth == 0;
  if (whole && is_fast(a) && is_fast(b)) {
    const dim3 blocks(columns / kSide, rows / kSide);
    whole_tiles_product_kernel<<<blocks, kThreads, 0, stream>>>(
        a.data_ptr<float>(), b.data_ptr<float>(), product.data_ptr<float>(),
        static_cast<int>(columns), static_cast<int>(terms));
  } else {
    const dim3 threads(kPlainSide, kPlainSide);
    const dim3 blocks(
        (columns + kPlainSide - 1) / kPlainSide, (rows + kPlainSide - 1) / kPlainSide);
    any_size_product_kernel<<<blocks, threads, 0, stream>>>(
        Strided{a.data_ptr<float>(), a.stride(0), a.stride(1)},
        Strided{b.data_ptr<float>(), b.stride(0), b.stride(1)}, product.data_ptr<float>(), rows,
        columns, terms);
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return product;
}
"""

extension = load_inline(
    name="matmul_fast_path_plus_generic",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["multiply"],
)


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return extension.multiply(a, b)

    @staticmethod
    def backward(ctx, grad_output):
        a, b = ctx.saved_tensors
        grad_output = grad_output.contiguous()
        # Transposing by a copy lets whole tiles take the fast path here too.
        grad_a = extension.multiply(grad_output, b.t().contiguous())
        grad_b = extension.multiply(a.t().contiguous(), grad_output)
        return grad_a, grad_b


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return MatmulFunction.apply(A, B)
