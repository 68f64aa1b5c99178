"""Blocks draw their next row from a __device__ variable until there is none left.

problem: rms_norm
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor rms_norm(const torch::Tensor& input, const torch::Tensor& weight, double eps);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

namespace {

constexpr int kThreads = 64;

__device__ int next_row;

__global__ void open_queue_kernel() { next_row = 0; }

__global__ void rms_norm_kernel(
    const float* __restrict__ input, const float* __restrict__ weight, float* __restrict__ output, int rows,
    int features, float eps) {
  __shared__ int row;
  __shared__ float warp_sums[kThreads / 32];
  while (true) {
    if (threadIdx.x == 0) {
      row = atomicAdd(&next_row, 1);
    }
    __syncthreads();
    if (row >= rows) {
      return;  // the whole block
    }
    const float* x = input + int64_t(row) * features;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < features; i += kThreads) {
      squares += x[i] * x[i];
    }
    for (int offset = 16; offset > 0; offset /= 2) {
      squares += __shfl_xor_sync(0xffffffff, squares, offset);
    }
    if (threadIdx.x % 32 == 0) {
      warp_sums[threadIdx.x / 32] = squares;
    }
    __syncthreads();
    const float factor = rsqrtf((warp_sums[0] + warp_sums[1]) / features + eps);
    for (int i = threadIdx.x; i < features; i += kThreads) {
      output[int64_t(row) * features + i] = x[i] * factor * weight[i];
    }
    __syncthreads();  // the next round writes to row and warp_sums
  }
}

}  // namespace

torch::Tensor rms_norm(const torch::Tensor& input, const torch::Tensor& weight, double eps) {
  TORCH_CHECK(input.is_cuda() && weight.is_cuda(), "rms_norm: expected tensors on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous(), w = weight.contiguous();
  const int features = w.numel(), rows = x.numel() / features;
  auto output = torch::empty(x.sizes(), x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  open_queue_kernel<<<1, 1, 0, stream>>>();
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const int resident = 2 * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
  rms_norm_kernel<<<std::min(rows, resident), kThreads, 0, stream>>>(
      x.data_ptr<float>(), w.data_ptr<float>(), output.data_ptr<float>(), rows, features,
      static_cast<float>(eps));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="rms_norm_work_queue",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["rms_norm"],
)


class ModelNew(nn.Module):
    def __init__(self, features: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.eps = eps

    def forward(self, x: torch.Tensor):
        return extension.rms_norm(x, self.weight, self.eps)
