"""A scan by doubling distances that goes back and forth between two halves of a 2-D buffer.

problem: prefix_sum
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor prefix_sum(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 64;

__global__ void prefix_sum_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t columns) {
  __shared__ float buffer[2][kThreads];
  const int t = threadIdx.x;
  const int64_t row = blockIdx.x;
  float carry = 0.0f;
  for (int64_t start = 0; start < columns; start += kThreads) {
    int now = 0;
    buffer[now][t] = start + t < columns ? input[row * columns + start + t] : 0.0f;
    __syncthreads();
    for (int distance = 1; distance < kThreads; distance *= 2) {
      buffer[now ^ 1][t] = buffer[now][t] + (t >= distance ? buffer[now][t - distance] : 0.0f);
      now ^= 1;
      __syncthreads();
    }
    if (start + t < columns) {
      output[row * columns + start + t] = carry + buffer[now][t];
    }
    carry += buffer[now][kThreads - 1];
    __syncthreads();
  }
}

}  // namespace

torch::Tensor prefix_sum(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "prefix_sum: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows, columns}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  prefix_sum_kernel<<<rows, kThreads, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="prefix_sum_double_buffered",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["prefix_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.prefix_sum(x)
