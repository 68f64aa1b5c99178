"""Several blocks for every row, and each one writes its part over that of the others.

problem: row_sum
emulated: wrong_values|racy
h100: wrong_values
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

namespace {

constexpr int kThreads = 64;
constexpr int kColumnsPerBlock = 256;

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    value += __shfl_down_sync(0xffffffffu, value, offset);
  }
  return value;
}

__global__ void __launch_bounds__(kThreads) row_sum_kernel(
    const float* __restrict__ input, float* output, int64_t columns) {
  const int64_t row = blockIdx.y;
  const int64_t first = int64_t(blockIdx.x) * kColumnsPerBlock;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kColumnsPerBlock / kThreads; ++i) {
    const int64_t column = first + i * kThreads + threadIdx.x;
    sum += column < columns ? __ldg(&input[row * columns + column]) : 0.0f;
  }
  sum = warp_sum(sum);
  if ((threadIdx.x & 31) == 0) {
    output[row] = sum;  // the bug: it must be added to what the other warps have
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
  C10_CUDA_CHECK(cudaMemsetAsync(output.data_ptr<float>(), 0, rows * sizeof(float), stream));
  const dim3 grid((columns + kColumnsPerBlock - 1) / kColumnsPerBlock, rows);
  row_sum_kernel<<<grid, kThreads, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="row_sum_blocks_overwrite",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
