"""A product that is computed as its own transpose, column by column, and returned as a view with
transposed strides. So are its gradients: the values count, not how they lie in memory.

gallery: view_output
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor transposed_product(const torch::Tensor& a, const torch::Tensor& b);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kTile = 16;

struct Operand {
  const float* data;
  int64_t row_stride, column_stride;

  __device__ float at(int64_t row, int64_t column) const {
    return data[row * row_stride + column * column_stride];
  }
};

// Neighbouring threads take neighbouring rows, which lie side by side in the transposed result.
__global__ void transposed_product_kernel(
    Operand a, Operand b, float* __restrict__ transposed, int64_t rows, int64_t columns,
    int64_t terms) {
  __shared__ float a_tile[kTile][kTile + 1], b_tile[kTile][kTile + 1];
  const int tx = threadIdx.x, ty = threadIdx.y;
  const int64_t row = int64_t(blockIdx.x) * kTile + tx;
  const int64_t column = int64_t(blockIdx.y) * kTile + ty;
  float sum = 0.0f;
  for (int64_t k = 0; k < terms; k += kTile) {
    a_tile[ty][tx] = row < rows && k + ty < terms ? a.at(row, k + ty) : 0.0f;
    b_tile[ty][tx] = column < columns && k + tx < terms ? b.at(k + tx, column) : 0.0f;
    __syncthreads();
    for (int i = 0; i < kTile; ++i) sum += a_tile[i][tx] * b_tile[ty][i];
    __syncthreads();
  }
  if (row < rows && column < columns) transposed[column * rows + row] = sum;
}

}  // namespace

torch::Tensor transposed_product(const torch::Tensor& a, const torch::Tensor& b) {
  TORCH_CHECK(a.is_cuda() && b.is_cuda() && a.size(1) == b.size(0), "matrices do not fit");
  const c10::cuda::CUDAGuard guard(a.device());
  const int64_t rows = a.size(0), columns = b.size(1);
  auto transposed = torch::empty({columns, rows}, a.options());
  const dim3 blocks((rows + kTile - 1) / kTile, (columns + kTile - 1) / kTile);
  transposed_product_kernel<<<
      blocks, dim3(kTile, kTile), 0, at::cuda::getCurrentCUDAStream()>>>(
      Operand{a.data_ptr<float>(), a.stride(0), a.stride(1)},
      Operand{b.data_ptr<float>(), b.stride(0), b.stride(1)}, transposed.data_ptr<float>(), rows,
      columns, a.size(1));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return transposed;
}
"""

extension = load_inline(
    name="matmul_view_output",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["transposed_product"],
)


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product as a view of its transpose."""
    return extension.transposed_product(a, b).t()


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return product(a, b)

    @staticmethod
    def backward(ctx, grad_output):
        a, b = ctx.saved_tensors
        grad_a = product(grad_output, b.t()) if ctx.needs_input_grad[0] else None
        grad_b = product(a.t(), grad_output) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return MatmulFunction.apply(A, B)
