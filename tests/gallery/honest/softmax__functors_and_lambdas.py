"""Softmax from one reduction template: extended device lambdas say how an element is read and how
two are joined, functors how one is written, and dtypes are dispatched.

gallery: templates_and_lambdas
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor softmax_forward(const torch::Tensor& x, int64_t dim);
torch::Tensor softmax_backward(const torch::Tensor& grad, const torch::Tensor& y, int64_t dim);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <limits>

namespace {

constexpr int kThreads = 128;

struct Lines {
  int64_t count, length, inner;

  __host__ __device__ int64_t start(int64_t line) const {
    return line / inner * length * inner + line % inner;
  }
};

template <typename scalar_t, typename Join>
__device__ scalar_t reduce_block(scalar_t value, const Join& join) {
  __shared__ scalar_t partial[kThreads];
  partial[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      partial[threadIdx.x] = join(partial[threadIdx.x], partial[threadIdx.x + half]);
    }
    __syncthreads();
  }
  const scalar_t result = partial[0];
  __syncthreads();
  return result;
}

// results[line] = join of element(index) over the line
template <typename scalar_t, typename Element, typename Join>
__global__ void reduce_lines_kernel(
    Lines lines, scalar_t neutral, Element element, Join join, scalar_t* __restrict__ results) {
  const int64_t start = lines.start(blockIdx.x);
  scalar_t value = neutral;
  for (int64_t i = threadIdx.x; i < lines.length; i += kThreads) {
    value = join(value, element(int64_t(blockIdx.x), start + i * lines.inner));
  }
  value = reduce_block(value, join);
  if (threadIdx.x == 0) results[blockIdx.x] = value;
}

template <typename scalar_t, typename Result>
__global__ void map_lines_kernel(Lines lines, Result result, scalar_t* __restrict__ output) {
  const int64_t start = lines.start(blockIdx.x);
  for (int64_t i = threadIdx.x; i < lines.length; i += kThreads) {
    const int64_t at = start + i * lines.inner;
    output[at] = result(int64_t(blockIdx.x), at);
  }
}

template <typename scalar_t>
struct Normalised {
  const scalar_t *x, *largest, *sum;

  __device__ scalar_t operator()(int64_t line, int64_t at) const {
    return exp(x[at] - largest[line]) / sum[line];
  }
};

template <typename scalar_t>
struct Gradient {
  const scalar_t *grad, *y, *dot;

  __device__ scalar_t operator()(int64_t line, int64_t at) const {
    return y[at] * (grad[at] - dot[line]);
  }
};

template <typename scalar_t, typename Element, typename Join>
torch::Tensor reduce_lines(
    const Lines& lines, const torch::Tensor& like, scalar_t neutral, Element element, Join join) {
  auto results = torch::empty({lines.count}, like.options());
  reduce_lines_kernel<<<lines.count, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      lines, neutral, element, join, results.template data_ptr<scalar_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return results;
}

template <typename scalar_t, typename Result>
torch::Tensor map_lines(const Lines& lines, const torch::Tensor& like, Result result) {
  auto output = torch::empty_like(like);
  map_lines_kernel<<<lines.count, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      lines, result, output.template data_ptr<scalar_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

Lines lines_of(const torch::Tensor& x, int64_t dim) {
  return {x.numel() / x.size(dim), x.size(dim), x.stride(dim)};
}

}  // namespace

torch::Tensor softmax_forward(const torch::Tensor& x, int64_t dim) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Lines lines = lines_of(x, dim);
  torch::Tensor y;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "softmax_forward", [&] {
    const scalar_t* in = x.data_ptr<scalar_t>();
    const auto largest = reduce_lines<scalar_t>(
        lines, x, -std::numeric_limits<scalar_t>::infinity(),
        [=] __device__(int64_t, int64_t at) { return in[at]; },
        [] __device__(scalar_t a, scalar_t b) { return a > b ? a : b; });
    const scalar_t* peak = largest.data_ptr<scalar_t>();
    const auto sum = reduce_lines<scalar_t>(
        lines, x, scalar_t(0),
        [=] __device__(int64_t line, int64_t at) { return exp(in[at] - peak[line]); },
        [] __device__(scalar_t a, scalar_t b) { return a + b; });
    const Normalised<scalar_t> normalised{in, peak, sum.data_ptr<scalar_t>()};
    y = map_lines<scalar_t>(lines, x, normalised);
  });
  return y;
}

torch::Tensor softmax_backward(const torch::Tensor& grad, const torch::Tensor& y, int64_t dim) {
  const c10::cuda::CUDAGuard guard(y.device());
  const Lines lines = lines_of(y, dim);
  torch::Tensor grad_x;
  AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "softmax_backward", [&] {
    const scalar_t *g = grad.data_ptr<scalar_t>(), *out = y.data_ptr<scalar_t>();
    const auto dot = reduce_lines<scalar_t>(
        lines, y, scalar_t(0),
        [=] __device__(int64_t, int64_t at) { return g[at] * out[at]; },
        [] __device__(scalar_t a, scalar_t b) { return a + b; });
    grad_x = map_lines<scalar_t>(
        lines, y, Gradient<scalar_t>{g, out, dot.data_ptr<scalar_t>()});
  });
  return grad_x;
}
"""

extension = load_inline(
    name="softmax_functors_and_lambdas",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_forward", "softmax_backward"],
    extra_cuda_cflags=["--extended-lambda"],
)


class SoftmaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        ctx.dim = dim % x.dim()
        y = extension.softmax_forward(x.contiguous(), ctx.dim)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return extension.softmax_backward(grad_output.contiguous(), y, ctx.dim), None


class ModelNew(nn.Module):
    def __init__(self, dim: int = 1):
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SoftmaxFunction.apply(x, self.dim)
