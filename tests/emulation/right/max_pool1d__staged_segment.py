"""What a block's windows cover goes through dynamic shared memory; a block of 64 windows of one row.

problem: max_pool1d
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor max_pool1d(const torch::Tensor& input, int64_t kernel_size, int64_t stride);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kWindows = 64;

__global__ void max_pool1d_kernel(
    const float* __restrict__ input, float* __restrict__ output, int length, int windows, int kernel_size,
    int stride) {
  extern __shared__ float segment[];
  const int first_window = blockIdx.x * kWindows;
  const int first = first_window * stride;
  const int last_window = min(first_window + kWindows, windows) - 1;
  const int elements = (last_window - first_window) * stride + kernel_size;
  const float* row = input + int64_t(blockIdx.y) * length;
  for (int i = threadIdx.x; i < elements; i += blockDim.x) {
    segment[i] = row[first + i];
  }
  __syncthreads();
  const int window = first_window + threadIdx.x;
  if (window <= last_window) {
    float best = segment[threadIdx.x * stride];
    for (int k = 1; k < kernel_size; ++k) {
      best = fmaxf(best, segment[threadIdx.x * stride + k]);
    }
    output[int64_t(blockIdx.y) * windows + window] = best;
  }
}

}  // namespace

torch::Tensor max_pool1d(const torch::Tensor& input, int64_t kernel_size, int64_t stride) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 3, "max_pool1d: expected (batch, channels, length)");
  TORCH_CHECK(input.size(2) >= kernel_size, "max_pool1d: no window fits");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int rows = x.size(0) * x.size(1), length = x.size(2);
  const int windows = (length - kernel_size) / stride + 1;
  auto output = torch::empty({x.size(0), x.size(1), windows}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const dim3 grid((windows + kWindows - 1) / kWindows, rows);
  const size_t bytes = ((kWindows - 1) * stride + kernel_size) * sizeof(float);
  max_pool1d_kernel<<<grid, kWindows, bytes, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), length, windows, kernel_size, stride);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="max_pool1d_staged_segment",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["max_pool1d"],
)


class ModelNew(nn.Module):
    def __init__(self, kernel_size: int = 3, stride: int = 2):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: torch.Tensor):
        return extension.max_pool1d(x, self.kernel_size, self.stride)
