"""The backward applies the function once more and asks autograd for the gradient, which runs the
same backward again, without end.

gallery: infinite_recursion
emulated: rejected
h100: rejected
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor softmax_forward(const torch::Tensor& input, int64_t dim);
torch::Tensor softmax_backward(
    const torch::Tensor& grad_output, const torch::Tensor& output, int64_t dim);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 256;

// A tensor seen as (outer, length, inner); a line runs over `length` and its elements are
// `inner` apart.
struct Lines {
  int64_t outer = 1, length = 1, inner = 1;
  __device__ int64_t start(int64_t line) const {
    return line / inner * length * inner + line % inner;
  }
};

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

struct Maximum {
  __device__ float operator()(float a, float b) const { return a < b || isnan(b) ? b : a; }
};

// Combines a value of every thread of the block and gives the result to all of them.
template <typename Combine>
__device__ float block_reduce(float value, Combine combine) {
  __shared__ float partial[kThreads];
  partial[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      partial[threadIdx.x] = combine(partial[threadIdx.x], partial[threadIdx.x + half]);
    }
    __syncthreads();
  }
  const float result = partial[0];
  __syncthreads();
  return result;
}

// One block per line.
__global__ void softmax_forward_kernel(
    const float* __restrict__ input, float* __restrict__ output, Lines lines) {
  const int64_t start = lines.start(blockIdx.x);
  float maximum = -INFINITY;
  for (int64_t i = threadIdx.x; i < lines.length; i += kThreads) {
    maximum = Maximum()(maximum, input[start + i * lines.inner]);
  }
  maximum = block_reduce(maximum, Maximum());
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < lines.length; i += kThreads) {
    sum += expf(input[start + i * lines.inner] - maximum);
  }
  sum = block_reduce(sum, Sum());
  for (int64_t i = threadIdx.x; i < lines.length; i += kThreads) {
    output[start + i * lines.inner] = expf(input[start + i * lines.inner] - maximum) / sum;
  }
}

__global__ void softmax_backward_kernel(
    const float* __restrict__ grad_output,
    const float* __restrict__ output,
    float* __restrict__ grad_input,
    Lines lines) {
  const int64_t start = lines.start(blockIdx.x);
  float dot = 0.0f;
  for (int64_t i = threadIdx.x; i < lines.length; i += kThreads) {
    dot += grad_output[start + i * lines.inner] * output[start + i * lines.inner];
  }
  dot = block_reduce(dot, Sum());
  for (int64_t i = threadIdx.x; i < lines.length; i += kThreads) {
    const int64_t at = start + i * lines.inner;
    grad_input[at] = output[at] * (grad_output[at] - dot);
  }
}

Lines lines_along(const torch::Tensor& x, int64_t dim) {
  Lines lines;
  dim = dim < 0 ? dim + x.dim() : dim;
  for (int64_t d = 0; d < x.dim(); ++d) {
    (d < dim ? lines.outer : d == dim ? lines.length : lines.inner) *= x.size(d);
  }
  return lines;
}

}  // namespace

torch::Tensor softmax_forward(const torch::Tensor& input, int64_t dim) {
  TORCH_CHECK(input.is_cuda(), "softmax: input must be a CUDA tensor");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  const Lines lines = lines_along(x, dim);
  softmax_forward_kernel<<<
      lines.outer * lines.inner, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), lines);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor softmax_backward(
    const torch::Tensor& grad_output, const torch::Tensor& output, int64_t dim) {
  const c10::cuda::CUDAGuard guard(output.device());
  const auto dy = grad_output.contiguous();
  auto grad_input = torch::empty(output.sizes(), output.options());
  const Lines lines = lines_along(output, dim);
  softmax_backward_kernel<<<
      lines.outer * lines.inner, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), output.data_ptr<float>(), grad_input.data_ptr<float>(), lines);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

extension = load_inline(
    name="softmax_kernels",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_forward", "softmax_backward"],
)


class SoftmaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, dim: int) -> torch.Tensor:
        output = extension.softmax_forward(x, dim)
        ctx.save_for_backward(x)
        ctx.dim = dim
        return output

    @staticmethod
    def backward(ctx, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        (saved,) = ctx.saved_tensors
        with torch.enable_grad():
            x = saved.detach().requires_grad_()
            output = SoftmaxFunction.apply(x, ctx.dim)
            (grad_input,) = torch.autograd.grad(output, x, grad_output)
        return grad_input, None


class ModelNew(nn.Module):
    """Normalises exponentials along one dimension to sum to one."""

    def __init__(self, dim: int = 1):
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SoftmaxFunction.apply(x, self.dim)
