"""A lambda of the host launches; all floating types and half through AT_DISPATCH.

problem: bias_gelu
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor bias_gelu(const torch::Tensor& input, const torch::Tensor& bias);
"""

cuda_source = r"""
#include <torch/extension.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

namespace {

template <typename scalar_t>
__global__ void bias_gelu_kernel(
    const scalar_t* __restrict__ input, const scalar_t* __restrict__ bias, scalar_t* __restrict__ output,
    int64_t numel, int64_t features) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < numel; i += stride) {
    const float x = static_cast<float>(input[i]) + static_cast<float>(bias[i % features]);
    output[i] = static_cast<scalar_t>(0.5f * x * (1.0f + erff(x * 0.70710678f)));
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
  const int threads = 256;
  const int blocks = std::min<int64_t>((numel + threads - 1) / threads, 1024);
  AT_DISPATCH_FLOATING_TYPES_AND_HALF(x.scalar_type(), "bias_gelu", [&] {
    auto launch = [&](const scalar_t* from, const scalar_t* add, scalar_t* to) {
      bias_gelu_kernel<<<blocks, threads, 0, stream>>>(from, add, to, numel, features);
    };
    launch(x.data_ptr<scalar_t>(), b.data_ptr<scalar_t>(), output.data_ptr<scalar_t>());
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="bias_gelu_launch_in_lambda",
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
