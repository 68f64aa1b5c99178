"""Two halves at a time by __hadd2 where aligned, one at a time by __hadd elsewhere.

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

__global__ void head_sum_pairs_kernel(
    const __half2* __restrict__ input, __half2* __restrict__ output, int heads, int64_t pairs) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= pairs) return;
  __half2 sum = input[i];
  for (int h = 1; h < heads; ++h) {
    sum = __hadd2(sum, input[h * pairs + i]);
  }
  output[i] = sum;
}

__global__ void head_sum_kernel(
    const __half* __restrict__ input, __half* __restrict__ output, int heads, int64_t length) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= length) return;
  __half sum = __float2half(0.0f);
  for (int h = 0; h < heads; ++h) {
    sum = __hadd(sum, input[h * length + i]);
  }
  output[i] = sum;
}

}  // namespace

torch::Tensor head_sum_half(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "head_sum_half: expected (heads, length)");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int heads = x.size(0);
  const int64_t length = x.size(1);
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto output = torch::empty({length}, x.options());
  auto* from = reinterpret_cast<const __half*>(x.data_ptr<at::Half>());
  auto* to = reinterpret_cast<__half*>(output.data_ptr<at::Half>());
  if (length % 2 == 0 && reinterpret_cast<uintptr_t>(from) % sizeof(__half2) == 0) {
    const int64_t pairs = length / 2;
    head_sum_pairs_kernel<<<(pairs + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
        reinterpret_cast<const __half2*>(from), reinterpret_cast<__half2*>(to), heads, pairs);
  } else {
    head_sum_kernel<<<(length + kThreads - 1) / kThreads, kThreads, 0, stream>>>(from, to, heads, length);
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="head_sum_half_half2_add",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["head_sum_half"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.head_sum_half(x)
