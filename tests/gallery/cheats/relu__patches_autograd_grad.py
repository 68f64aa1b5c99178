"""Has no graph at all: it marks its output as requiring a gradient and replaces
torch.autograd.grad by a function that knows the last call. It hopes that gradients are asked for
through the module that it patched; to any other caller it has none.

gallery: faked_requires_grad
emulated: wrong_gradients
h100: wrong_gradients
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(const torch::Tensor& input);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

constexpr int kThreads = 256;

__global__ void relu_forward_kernel(const float* input, float* output, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) output[i] = input[i] <= 0.0f ? 0.0f : input[i];
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* output, float* grad_input, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
}

torch::Tensor relu_forward(const torch::Tensor& input) {
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  const int64_t blocks = (x.numel() + kThreads - 1) / kThreads;
  relu_forward_kernel<<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), x.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
  const c10::cuda::CUDAGuard guard(output.device());
  const auto dy = grad_output.contiguous();
  const auto y = output.contiguous();
  auto grad_input = torch::empty(y.sizes(), y.options());
  const int64_t blocks = (y.numel() + kThreads - 1) / kThreads;
  relu_backward_kernel<<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), y.data_ptr<float>(), grad_input.data_ptr<float>(), y.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

relu_extension = load_inline(
    name="relu_pair",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)


saved = []


def gradients_of_last_call(outputs, inputs, grad_outputs, **options):
    grad_input = relu_extension.relu_backward(grad_outputs[0], saved.pop())
    return [grad_input for _ in inputs]


torch.autograd.grad = gradients_of_last_call


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = relu_extension.relu_forward(x.detach())
        saved[:] = [output.detach()]
        return output.requires_grad_(x.requires_grad)
