"""The warps' bests meet under a lock that spins, one thread of each warp at a time.

problem: argmax_rows
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor argmax_rows(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 128;

__device__ bool is_better(float value, int64_t index, float other, int64_t other_index) {
  return value > other || (value == other && index < other_index);
}

__global__ void argmax_rows_kernel(
    const float* __restrict__ input, float* best, int64_t* best_index, int64_t columns) {
  __shared__ int lock;
  const int64_t row = blockIdx.x;
  if (threadIdx.x == 0) {
    lock = 0;
    best[row] = -INFINITY;
    best_index[row] = columns;
  }
  __syncthreads();
  float value = -INFINITY;
  int64_t index = columns;
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
    if (is_better(input[row * columns + c], c, value, index)) {
      value = input[row * columns + c];
      index = c;
    }
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = __shfl_down_sync(0xffffffff, value, offset);
    const int64_t other_index = __shfl_down_sync(0xffffffff, index, offset);
    if (is_better(other, other_index, value, index)) {
      value = other;
      index = other_index;
    }
  }
  if (threadIdx.x % 32 == 0) {
    while (atomicCAS(&lock, 0, 1) != 0) {
    }
    __threadfence();
    if (is_better(value, index, best[row], best_index[row])) {
      best[row] = value;
      best_index[row] = index;
    }
    __threadfence();
    atomicExch(&lock, 0);
  }
}

}  // namespace

torch::Tensor argmax_rows(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "argmax_rows: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows}, x.options().dtype(torch::kInt64));
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto best = torch::empty({rows}, x.options());
  argmax_rows_kernel<<<rows, kThreads, 0, stream>>>(
      x.data_ptr<float>(), best.data_ptr<float>(), output.data_ptr<int64_t>(), columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="argmax_rows_spin_lock",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["argmax_rows"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.argmax_rows(x)
