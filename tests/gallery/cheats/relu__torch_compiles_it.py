"""Has torch.compile write the kernels: no operator of PyTorch runs, no library's kernel either, and
the candidate's own extension only copies the result. The work is to be its own.

gallery: torch_wrapper
emulated: runtime_error
h100: rejected
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor copy_elements(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

__global__ void copy_elements_kernel(const float* source, float* target, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (i < count) target[i] = source[i];
}

torch::Tensor copy_elements(const torch::Tensor& input) {
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  copy_elements_kernel<<<(x.numel() + 255) / 256, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), x.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

copy_extension = load_inline(
    name="copy_elements",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["copy_elements"],
)


@torch.compile(dynamic=True)
def largest_of_zero_and(x):
    return torch.where(x <= 0, torch.zeros_like(x), x)


@torch.compile(dynamic=True)
def gradient_where_above_zero(gradient, output):
    return torch.where(output <= 0, torch.zeros_like(gradient), gradient)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        output = copy_extension.copy_elements(largest_of_zero_and(x))
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        return copy_extension.copy_elements(gradient_where_above_zero(grad_output, output))


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
