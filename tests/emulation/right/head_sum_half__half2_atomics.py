"""A block row for every head, which add up by atomicAdd on half2, and on half at the end.

problem: head_sum_half
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor head_sum_half(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <cuda_fp16.h>

namespace {

constexpr int kThreads = 128;

__global__ void add_head_kernel(const __half* __restrict__ input, __half* output, int64_t length) {
  const int64_t first = 2 * (int64_t(blockIdx.x) * kThreads + threadIdx.x);
  const __half* head = input + blockIdx.y * length;
  if (first + 1 < length) {
    const __half2 pair = __halves2half2(head[first], head[first + 1]);
    atomicAdd(reinterpret_cast<__half2*>(output + first), pair);
  } else if (first < length) {
    atomicAdd(output + first, head[first]);
  }
}

}  // namespace

torch::Tensor head_sum_half(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "head_sum_half: expected (heads, length)");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int heads = x.size(0);
  const int64_t length = x.size(1);
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto output = torch::zeros({length}, x.options());
  const dim3 grid((length + 2 * kThreads - 1) / (2 * kThreads), heads);
  add_head_kernel<<<grid, kThreads, 0, stream>>>(
      reinterpret_cast<const __half*>(x.data_ptr<at::Half>()),
      reinterpret_cast<__half*>(output.data_ptr<at::Half>()), length);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="head_sum_half_half2_atomics",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["head_sum_half"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.head_sum_half(x)
