"""Softmax by resident blocks that walk over the lines. How many there are is asked of the runtime
once per device and size of shared memory, and kept: configuration, never a result.

gallery: cached_configuration
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

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

namespace {

constexpr int kWarp = 32;

struct Lines {
  int64_t count, length, inner;

  __device__ int64_t start(int64_t line) const {
    return line / inner * length * inner + line % inner;
  }
};

// `partial` has room for a number of each warp, in dynamic shared memory.
template <typename Join>
__device__ float reduce_block(float value, float* partial, Join join) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = join(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  __syncthreads();
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = partial[0];
  for (int warp = 1; warp < blockDim.x / kWarp; ++warp) value = join(value, partial[warp]);
  return value;
}

__global__ void softmax_forward_kernel(
    const float* __restrict__ x, float* __restrict__ y, Lines lines) {
  extern __shared__ float partial[];
  const auto larger = [](float a, float b) { return fmaxf(a, b); };
  const auto plus = [](float a, float b) { return a + b; };
  for (int64_t line = blockIdx.x; line < lines.count; line += gridDim.x) {
    const int64_t start = lines.start(line);
    float largest = -INFINITY;
    for (int64_t i = threadIdx.x; i < lines.length; i += blockDim.x) {
      largest = fmaxf(largest, x[start + i * lines.inner]);
    }
    largest = reduce_block(largest, partial, larger);
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < lines.length; i += blockDim.x) {
      sum += expf(x[start + i * lines.inner] - largest);
    }
    sum = reduce_block(sum, partial, plus);
    for (int64_t i = threadIdx.x; i < lines.length; i += blockDim.x) {
      y[start + i * lines.inner] = expf(x[start + i * lines.inner] - largest) / sum;
    }
  }
}

__global__ void softmax_backward_kernel(
    const float* __restrict__ grad, const float* __restrict__ y, float* __restrict__ grad_x,
    Lines lines) {
  extern __shared__ float partial[];
  const auto plus = [](float a, float b) { return a + b; };
  for (int64_t line = blockIdx.x; line < lines.count; line += gridDim.x) {
    const int64_t start = lines.start(line);
    float dot = 0.0f;
    for (int64_t i = threadIdx.x; i < lines.length; i += blockDim.x) {
      dot += grad[start + i * lines.inner] * y[start + i * lines.inner];
    }
    dot = reduce_block(dot, partial, plus);
    for (int64_t i = threadIdx.x; i < lines.length; i += blockDim.x) {
      const int64_t at = start + i * lines.inner;
      grad_x[at] = y[at] * (grad[at] - dot);
    }
  }
}

Lines lines_of(const torch::Tensor& x, int64_t dim) {
  return {x.numel() / x.size(dim), x.size(dim), x.stride(dim)};
}

struct Launch {
  int blocks, threads;
  size_t shared_bytes;
};

// A block as long as the line, up to 512 threads, and as many blocks as the device holds at once.
template <typename Kernel>
Launch plan(Kernel kernel, const Lines& lines, int device) {
  static std::mutex mutex;
  static std::map<std::tuple<const void*, int, int>, int> resident_blocks;
  const int warps = static_cast<int>(std::clamp<int64_t>(lines.length / kWarp, 1, 16));
  const size_t shared_bytes = warps * sizeof(float);
  const std::lock_guard<std::mutex> lock(mutex);
  const auto key = std::make_tuple(reinterpret_cast<const void*>(kernel), device, warps);
  const auto [known, is_new] = resident_blocks.try_emplace(key, 0);
  if (is_new) {
    int per_multiprocessor = 0, multiprocessors = 0;
    C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &per_multiprocessor, kernel, warps * kWarp, shared_bytes));
    C10_CUDA_CHECK(
        cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
    known->second = per_multiprocessor * multiprocessors;
  }
  const int blocks = static_cast<int>(std::min<int64_t>(known->second, lines.count));
  return {blocks, warps * kWarp, shared_bytes};
}

}  // namespace

torch::Tensor softmax_forward(const torch::Tensor& x, int64_t dim) {
  const c10::cuda::CUDAGuard guard(x.device());
  auto y = torch::empty_like(x);
  const Lines lines = lines_of(x, dim);
  const Launch launch = plan(softmax_forward_kernel, lines, x.get_device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  softmax_forward_kernel<<<launch.blocks, launch.threads, launch.shared_bytes, stream>>>(
      x.data_ptr<float>(), y.data_ptr<float>(), lines);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

torch::Tensor softmax_backward(const torch::Tensor& grad, const torch::Tensor& y, int64_t dim) {
  const c10::cuda::CUDAGuard guard(y.device());
  auto grad_x = torch::empty_like(y);
  const Lines lines = lines_of(y, dim);
  const Launch launch = plan(softmax_backward_kernel, lines, y.get_device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  softmax_backward_kernel<<<launch.blocks, launch.threads, launch.shared_bytes, stream>>>(
      grad.data_ptr<float>(), y.data_ptr<float>(), grad_x.data_ptr<float>(), lines);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_x;
}
"""

extension = load_inline(
    name="softmax_cached_occupancy",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_forward", "softmax_backward"],
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
