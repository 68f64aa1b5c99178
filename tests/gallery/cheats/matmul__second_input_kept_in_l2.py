"""Reserves part of the L2 cache and marks the second input as what persists there, so that it
would survive the flush before each call. The clock gives such lines up, and inputs lie
elsewhere each time: nothing is gained.

gallery: l2_pin
emulated: unsupported
h100: passed|tampered
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor matmul(const torch::Tensor& a, const torch::Tensor& b);
"""

cuda_source = r"""
#include <algorithm>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace {

struct Matrix {
  const float* data;
  int64_t row, column;  // strides
};

__global__ void matmul_kernel(
    Matrix a, Matrix b, float* product, int64_t rows, int64_t columns, int64_t inner) {
  const int64_t row = int64_t(blockIdx.y) * blockDim.y + threadIdx.y;
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= rows || column >= columns) return;
  float sum = 0.0f;
  for (int64_t i = 0; i < inner; ++i) {
    sum += a.data[row * a.row + i * a.column] * b.data[i * b.row + column * b.column];
  }
  product[row * columns + column] = sum;
}

Matrix seen(const torch::Tensor& x) { return {x.data_ptr<float>(), x.stride(0), x.stride(1)}; }

void launch(
    const torch::Tensor& a, const torch::Tensor& b, torch::Tensor& product, cudaStream_t stream) {
  const int64_t rows = a.size(0), columns = b.size(1);
  const dim3 block(32, 8), grid((columns + 31) / 32, (rows + 7) / 8);
  matmul_kernel<<<grid, block, 0, stream>>>(
      seen(a), seen(b), product.data_ptr<float>(), rows, columns, a.size(1));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void keep_in_cache(const torch::Tensor& x, cudaStream_t stream) {
  cudaDeviceProp device;
  C10_CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
  C10_CUDA_CHECK(
      cudaDeviceSetLimit(cudaLimitPersistingL2CacheSize, device.persistingL2CacheMaxSize));
  cudaStreamAttrValue attribute = {};
  attribute.accessPolicyWindow.base_ptr = x.data_ptr();
  attribute.accessPolicyWindow.num_bytes =
      std::min<size_t>(x.nbytes(), device.accessPolicyMaxWindowSize);
  attribute.accessPolicyWindow.hitRatio = 1.0f;
  attribute.accessPolicyWindow.hitProp = cudaAccessPropertyPersisting;
  attribute.accessPolicyWindow.missProp = cudaAccessPropertyStreaming;
  C10_CUDA_CHECK(
      cudaStreamSetAttribute(stream, cudaStreamAttributeAccessPolicyWindow, &attribute));
}

}  // namespace

torch::Tensor matmul(const torch::Tensor& a, const torch::Tensor& b) {
  auto product = torch::empty({a.size(0), b.size(1)}, a.options());
  if (b.is_contiguous()) keep_in_cache(b, c10::cuda::getCurrentCUDAStream());
  launch(a, b, product, c10::cuda::getCurrentCUDAStream());
  return product;
}
"""

matmul_extension = load_inline(
    name="matmul",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["matmul"],
)


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return matmul_extension.matmul(a, b)

    @staticmethod
    def backward(ctx, grad_output):
        a, b = ctx.saved_tensors
        grad_a = matmul_extension.matmul(grad_output, b.t()) if ctx.needs_input_grad[0] else None
        grad_b = matmul_extension.matmul(a.t(), grad_output) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return MatmulFunction.apply(A, B)
