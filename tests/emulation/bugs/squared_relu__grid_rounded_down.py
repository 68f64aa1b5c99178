"""The number of blocks is rounded down: nobody computes the tail.

problem: squared_relu
emulated: wrong_values
h100: wrong_values
finding: is wrong
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor squared_relu_forward(const torch::Tensor& input);
torch::Tensor squared_relu_backward(const torch::Tensor& grad_output, const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 128;

template <typename scalar_t>
__global__ void squared_relu_forward_kernel(
    const scalar_t* __restrict__ input, scalar_t* __restrict__ output, int64_t numel) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < numel) {
    const scalar_t x = input[i] > 0 ? input[i] : scalar_t(0);
    output[i] = x * x;
  }
}

template <typename scalar_t>
__global__ void squared_relu_backward_kernel(
    const scalar_t* __restrict__ grad_output, const scalar_t* __restrict__ input,
    scalar_t* __restrict__ grad_input, int64_t numel) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < numel) {
    grad_input[i] = input[i] > 0 ? 2 * input[i] * grad_output[i] : scalar_t(0);
  }
}

// the bug: it must be rounded up
dim3 grid_of(int64_t numel) { return dim3(numel < kThreads ? 1 : numel / kThreads); }

}  // namespace

torch::Tensor squared_relu_forward(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda(), "squared_relu: input must be a CUDA tensor");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "squared_relu_forward", [&] {
    const scalar_t* from = x.data_ptr<scalar_t>();
    scalar_t* to = output.data_ptr<scalar_t>();
    int64_t numel = x.numel();
    void* args[] = {&from, &to, &numel};
    cudaLaunchKernel(
        reinterpret_cast<const void*>(&squared_relu_forward_kernel<scalar_t>), grid_of(numel),
        dim3(kThreads), args, 0, stream);
  });
  const cudaError_t error = cudaGetLastError();
  TORCH_CHECK(error == cudaSuccess, "squared_relu: ", cudaGetErrorString(error));
  return output;
}

torch::Tensor squared_relu_backward(const torch::Tensor& grad_output, const torch::Tensor& input) {
  const c10::cuda::CUDAGuard guard(input.device());
  const auto dy = grad_output.contiguous(), x = input.contiguous();
  auto grad_input = torch::empty(x.sizes(), x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "squared_relu_backward", [&] {
    const scalar_t* dy_data = dy.data_ptr<scalar_t>();
    const scalar_t* x_data = x.data_ptr<scalar_t>();
    scalar_t* to = grad_input.data_ptr<scalar_t>();
    int64_t numel = x.numel();
    void* args[] = {(void*)&dy_data, (void*)&x_data, (void*)&to, (void*)&numel};
    cudaLaunchKernel(
        (const void*)squared_relu_backward_kernel<scalar_t>, grid_of(numel), kThreads, args, 0, stream);
  });
  const cudaError_t error = cudaGetLastError();
  TORCH_CHECK(error == cudaSuccess, "squared_relu: ", cudaGetErrorString(error));
  return grad_input;
}
"""

extension = load_inline(
    name="squared_relu_grid_rounded_down",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["squared_relu_forward", "squared_relu_backward"],
)


class SquaredReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return extension.squared_relu_forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return extension.squared_relu_backward(grad_output, x)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return SquaredReluFunction.apply(x)
