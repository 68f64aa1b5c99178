"""Every element is written one place to the left, also the first one of the first row.

problem: prefix_sum
emulated: runtime_error
h100: any
finding: before an allocation
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

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

__global__ void prefix_sum_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t columns) {
  __shared__ float warp_totals[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float* from = input + blockIdx.x * columns;
  float* to = output + blockIdx.x * columns;
  float carry = 0.0f;
  for (int64_t start = 0; start < columns; start += kThreads) {
    const int64_t i = start + threadIdx.x;
    float value = i < columns ? from[i] : 0.0f;
    for (int distance = 1; distance < 32; distance *= 2) {
      const float other = __shfl_up_sync(0xffffffff, value, distance);
      value += lane >= distance ? other : 0.0f;
    }
    if (lane == 31) {
      warp_totals[warp] = value;
    }
    __syncthreads();
    float before = carry;
    for (int w = 0; w < kWarps; ++w) {
      before += w < warp ? warp_totals[w] : 0.0f;
      carry += warp_totals[w];
    }
    if (i < columns) {
      to[i - 1] = before + value - from[i];  // the bug: i is 0 for the first thread
      if (i == columns - 1) {
        to[i] = before + value;
      }
    }
    __syncthreads();  // the next chunk writes to warp_totals
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
    name="prefix_sum_write_before_the_start",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["prefix_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.prefix_sum(x)
