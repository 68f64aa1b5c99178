"""A row of blocks for every row of the input: a grid is at most 65535 high.

problem: bias_gelu
emulated: runtime_error
h100: runtime_error
finding: 65535|invalid configuration
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

__global__ void bias_gelu_kernel(
    const float* __restrict__ input, const float* __restrict__ bias, float* __restrict__ output,
    int64_t features) {
  const int64_t feature = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (feature < features) {
    const float x = input[blockIdx.y * features + feature] + bias[feature];
    output[blockIdx.y * features + feature] = 0.5f * x * (1.0f + erff(x * 0.70710678f));
  }
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
  const unsigned threads = features < 128 ? 32 : 128;
  const dim3 grid((features + threads - 1) / threads, numel / features);  // the bug: rows along y
  bias_gelu_kernel<<<grid, threads, 0, stream>>>(
      x.data_ptr<float>(), b.data_ptr<float>(), output.data_ptr<float>(), features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="bias_gelu_grid_too_high",
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
