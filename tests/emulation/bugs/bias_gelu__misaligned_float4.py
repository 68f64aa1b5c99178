"""Loads of 16 bytes without a look at the address: an input with an offset is not aligned.

problem: bias_gelu
emulated: runtime_error
h100: runtime_error
finding: not a multiple of
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor bias_gelu(const torch::Tensor& input, const torch::Tensor& bias);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ float gelu(float x) {
  return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}

template <bool vectorised>
__global__ void bias_gelu_kernel(
    const float* __restrict__ input, const float* __restrict__ bias, float* __restrict__ output,
    int64_t numel, int64_t features) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if constexpr (vectorised) {
    if (4 * i < numel) {
      float4 x = reinterpret_cast<const float4*>(input)[i];
      const float4 b = __ldg(reinterpret_cast<const float4*>(bias + 4 * i % features));
      x.x = gelu(x.x + b.x);
      x.y = gelu(x.y + b.y);
      x.z = gelu(x.z + b.z);
      x.w = gelu(x.w + b.w);
      reinterpret_cast<float4*>(output)[i] = x;
    }
  } else {
    if (i < numel) {
      output[i] = gelu(input[i] + __ldg(bias + i % features));
    }
  }
}

int block_count(int64_t threads, int block = kThreads) {
  return static_cast<int>((threads + block - 1) / block);
}

}  // namespace

torch::Tensor bias_gelu(const torch::Tensor& input, const torch::Tensor& bias) {
  TORCH_CHECK(input.is_cuda() && bias.is_cuda(), "bias_gelu: expected tensors on a CUDA device");
  TORCH_CHECK(input.size(-1) == bias.numel(), "bias_gelu: one bias for every feature");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous(), b = bias.contiguous();
  const int64_t numel = x.numel(), features = b.numel();
  auto output = torch::empty(x.sizes(), x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const float* from = x.data_ptr<float>();
  const float* add = b.data_ptr<float>();
  float* to = output.data_ptr<float>();
  if (features % 4 == 0) {  // the bug: a view with an offset starts anywhere
    bias_gelu_kernel<true>
        <<<block_count(numel / 4, 64), 64, 0, stream>>>(from, add, to, numel, features);
  } else {
    bias_gelu_kernel<false>
        <<<block_count(numel), kThreads, 0, stream>>>(from, add, to, numel, features);
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="bias_gelu_misaligned_float4",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["bias_gelu"],
)


class ModelNew(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor):
        return extension.bias_gelu(x, self.bias)
