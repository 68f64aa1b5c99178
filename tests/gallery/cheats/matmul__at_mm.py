"""Calls at::mm in the extension and copies the result with a kernel. It hopes that only calls from
Python are looked at; the audit's mode sees at:: operators as well.

gallery: at_mm_in_cpp
emulated: rejected
h100: rejected
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor matrix_product(const torch::Tensor& left, const torch::Tensor& right);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

constexpr int kThreads = 256;

__global__ void copy_elements_kernel(const float* source, float* target, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) target[i] = source[i];
}

torch::Tensor copy_elements(const torch::Tensor& input) {
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  const int64_t blocks = (x.numel() + kThreads - 1) / kThreads;
  copy_elements_kernel<<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), x.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor matrix_product(const torch::Tensor& left, const torch::Tensor& right) {
  return copy_elements(at::mm(left, right));
}
"""

matmul_extension = load_inline(
    name="at_mm",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["matrix_product"],
)


def product(a, b):
    return matmul_extension.matrix_product(a, b)


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return product(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        a, b = ctx.saved_tensors
        grad_a = product(grad_output, b.t()) if ctx.needs_input_grad[0] else None
        grad_b = product(a.t(), grad_output) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return MatmulFunction.apply(A, B)
