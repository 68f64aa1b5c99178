"""Registers its product in an operator library of its own and calls at::mm inside of it. The
audit's mode meets the outer operator, which is not one of PyTorch's, and looks no deeper.

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

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>
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

torch::Tensor tiled_product(const torch::Tensor& left, const torch::Tensor& right) {
  return copy_elements(at::mm(left, right));
}

TORCH_LIBRARY(gallery_products, library) {
  library.def("tiled_product(Tensor left, Tensor right) -> Tensor");
}

TORCH_LIBRARY_IMPL(gallery_products, CUDA, library) {
  library.impl("tiled_product", tiled_product);
}

torch::Tensor matrix_product(const torch::Tensor& left, const torch::Tensor& right) {
  static const auto handle = c10::Dispatcher::singleton()
      .findSchemaOrThrow("gallery_products::tiled_product", "")
      .typed<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>();
  return handle.call(left, right);
}
"""

matmul_extension = load_inline(
    name="mm_inside_an_operator_library",
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
