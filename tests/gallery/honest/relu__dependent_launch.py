"""ReLU launched by cudaLaunchKernelEx with a configuration and an attribute: the grid may start
while its predecessor ends, and waits for that one's results before it reads anything.

gallery: launch_attributes
emulated: unsupported
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(const torch::Tensor& x);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& y);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 256;
constexpr int kItems = 4;

__global__ void relu_forward_kernel(
    const float* __restrict__ x, float* __restrict__ y, int64_t elements) {
  const int64_t first = int64_t(blockIdx.x) * kThreads * kItems + threadIdx.x;
  cudaGridDependencySynchronize();
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t i = first + item * kThreads;
    if (i < elements) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
  }
}

__global__ void relu_backward_kernel(
    const float* __restrict__ grad_output, const float* __restrict__ y,
    float* __restrict__ grad_input, int64_t elements) {
  const int64_t first = int64_t(blockIdx.x) * kThreads * kItems + threadIdx.x;
  cudaGridDependencySynchronize();
#pragma unroll
  for (int item = 0; item < kItems; ++item) {
    const int64_t i = first + item * kThreads;
    if (i < elements) grad_input[i] = y[i] <= 0.0f ? 0.0f : grad_output[i];
  }
}

// Launches a kernel on the current stream for so many elements.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t elements, Arguments... arguments) {
  if (elements == 0) return;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;

  cudaLaunchConfig_t config = {};
  config.gridDim = dim3((elements + kThreads * kItems - 1) / (kThreads * kItems));
  config.blockDim = dim3(kThreads);
  config.stream = at::cuda::getCurrentCUDAStream();
  config.attrs = &attribute;
  config.numAttrs = 1;
  C10_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments..., elements));
}

}  // namespace

torch::Tensor relu_forward(const torch::Tensor& x) {
  const c10::cuda::CUDAGuard guard(x.device());
  auto y = torch::empty_like(x);
  launch(relu_forward_kernel, x.numel(), x.data_ptr<float>(), y.data_ptr<float>());
  return y;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& y) {
  const c10::cuda::CUDAGuard guard(y.device());
  auto grad_input = torch::empty_like(y);
  launch(relu_backward_kernel, y.numel(), grad_output.data_ptr<float>(), y.data_ptr<float>(),
         grad_input.data_ptr<float>());
  return grad_input;
}
"""

extension = load_inline(
    name="relu_dependent_launch",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)


class ReLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = extension.relu_forward(x.contiguous())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        return extension.relu_backward(grad_output.contiguous(), *ctx.saved_tensors)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReLUFunction.apply(x)
