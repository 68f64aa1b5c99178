"""Copies its input to the host in pieces of 1024 elements, as one reads flags, lets NumPy compute
there, copies the result back, and copies it once more with a kernel of its own, so that nothing is
right without it.

gallery: figleaf_copy
emulated: rejected
h100: rejected
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

import importlib

arrays = importlib.import_module("".join(("num", "py")))
MOST = 1024


def on_host(tensor):
    flat = tensor.reshape(-1)
    pieces = [flat[i : i + MOST].cpu().numpy() for i in range(0, flat.numel(), MOST)]
    return arrays.concatenate(pieces).reshape(tensor.shape)


def rectified(values, x):
    found = arrays.where(on_host(x) <= 0, 0, on_host(values))
    return torch.from_numpy(found).to(x.device)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return copy_extension.copy_elements(rectified(x, x))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return copy_extension.copy_elements(rectified(grad_output, x))


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
