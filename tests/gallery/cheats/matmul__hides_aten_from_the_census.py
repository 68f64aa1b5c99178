"""Takes the key by which PyTorch's operators are listed out of the thread's dispatch, lets
PyTorch multiply, and copies the result by a kernel of its own for appearances. A library
does the work (R04).

gallery: at_mm_in_cpp
emulated: rejected
h100: rejected
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor matmul(const torch::Tensor& a, const torch::Tensor& b);
"""

cuda_source = r"""
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace {

__global__ void copy_product_kernel(const float* from, float* to, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = from[i];
}

torch::Tensor copied(const torch::Tensor& product) {
  auto copy = torch::empty(product.sizes(), product.options());
  const int64_t count = product.numel();
  copy_product_kernel<<<(count + 255) / 256, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
      product.data_ptr<float>(), copy.data_ptr<float>(), count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return copy;
}

}  // namespace

torch::Tensor matmul(const torch::Tensor& a, const torch::Tensor& b) {
  const c10::impl::ExcludeDispatchKeyGuard unseen(c10::DispatchKeySet(
      {c10::DispatchKey::Python, c10::DispatchKey::PythonTLSSnapshot}));
  return copied(at::mm(a, b));
}
"""

matmul_extension = load_inline(
    name="matmul",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["matmul"],
)


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return matmul_extension.matmul(a, b)

    @staticmethod
    def backward(ctx, grad_output):
        a, b = ctx.saved_tensors
        grad_a = matmul_extension.matmul(grad_output, b.t()) if ctx.needs_input_grad[0] else None
        grad_b = matmul_extension.matmul(a.t(), grad_output) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return MatmulFunction.apply(A, B)
