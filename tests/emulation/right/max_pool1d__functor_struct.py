"""A struct of sizes by value, a functor as template argument, a window in a local array.

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

constexpr int kLongestWindow = 8;

struct Pool {
  int rows, length, windows, kernel_size, stride;
};

struct Larger {
  __device__ float operator()(float a, float b) const { return b > a ? b : a; }
};

template <class Reduce>
__global__ void max_pool1d_kernel(const float* __restrict__ input, float* __restrict__ output, Pool pool) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= pool.rows * pool.windows) {
    return;
  }
  const int row = i / pool.windows, first = i % pool.windows * pool.stride;
  float window[kLongestWindow];
  for (int k = 0; k < pool.kernel_size; ++k) {
    window[k] = input[int64_t(row) * pool.length + first + k];
  }
  const Reduce reduce;
  float best = window[0];
  for (int k = 1; k < pool.kernel_size; ++k) {
    best = reduce(best, window[k]);
  }
  output[i] = best;
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
  TORCH_CHECK(kernel_size <= kLongestWindow, "max_pool1d: the window is too long");
  const Pool pool{rows, length, windows, static_cast<int>(kernel_size), static_cast<int>(stride)};
  max_pool1d_kernel<Larger><<<(rows * windows + 127) / 128, 128, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), pool);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="max_pool1d_functor_struct",
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
