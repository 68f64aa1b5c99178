"""The first step of the tree reads what other threads may not have written yet.

problem: row_sum
emulated: racy|wrong_values
h100: passed|wrong_values
finding: depends on the order|is wrong
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor row_sum(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

namespace {

constexpr int kThreads = 128;

__global__ void row_sum_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t rows, int64_t columns) {
  __shared__ float partial[kThreads];
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float sum = 0.0f;
    for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
      sum += input[row * columns + c];
    }
    partial[threadIdx.x] = sum;
    // the bug: no __syncthreads() before other threads' values are read
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) {
        partial[threadIdx.x] += partial[threadIdx.x + half];
      }
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      output[row] = partial[0];
    }
  }
}

}  // namespace

torch::Tensor row_sum(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "row_sum: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int64_t resident = 4 * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
  const int blocks = std::min(rows, resident);
  row_sum_kernel<<<blocks, kThreads, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), rows, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="row_sum_barrier_missing_before_read",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
