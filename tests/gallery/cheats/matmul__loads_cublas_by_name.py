"""Finds cuBLAS by dlopen and its product by dlsym, under names that are put together at run
time, and copies the result by a kernel of its own for appearances. A library does the work
(R04); where there is none, it says so. On an H100 it was wrong for one element, before that.

gallery: at_mm_in_cpp
emulated: runtime_error
h100: rejected|wrong_gradients
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor matmul(const torch::Tensor& a, const torch::Tensor& b);
"""

cuda_source = r"""
#include <dlfcn.h>
#include <string>

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

using Create = int (*)(void**);
using SetStream = int (*)(void*, cudaStream_t);
using Product = int (*)(void*, int, int, int, int, int, const float*, const float*, int,
                        const float*, int, const float*, float*, int);

template <typename Function>
Function find(const std::string& name) {
  static const std::string library = std::string("libcu") + "blas.so";
  for (const char* version : {".13", ".12", ""}) {
    void* opened = dlopen((library + version).c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (opened != nullptr) return reinterpret_cast<Function>(dlsym(opened, name.c_str()));
  }
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name.c_str()));
}

}  // namespace

torch::Tensor matmul(const torch::Tensor& left, const torch::Tensor& right) {
  const auto a = left.contiguous(), b = right.contiguous();
  const std::string prefix = std::string("cu") + "blas";
  static void* handle = nullptr;
  static const auto set_stream = find<SetStream>(prefix + "SetStream_v2");
  static const auto product_of = find<Product>(prefix + "Sgemm_v2");
  static const auto create = find<Create>(prefix + "Create_v2");
  if (handle == nullptr && create != nullptr) create(&handle);
  TORCH_CHECK(handle != nullptr && product_of != nullptr, "there is no such library");
  auto product = torch::empty({a.size(0), b.size(1)}, a.options());
  const int rows = a.size(0), columns = b.size(1), inner = a.size(1);
  const float one = 1.0f, zero = 0.0f;
  set_stream(handle, c10::cuda::getCurrentCUDAStream());
  product_of(handle, 0, 0, columns, rows, inner, &one, b.data_ptr<float>(), columns,
             a.data_ptr<float>(), inner, &zero, product.data_ptr<float>(), columns);
  return copied(product);
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
