"""As many blocks as the device holds at a time, by an occupancy query; doubles in shared memory.

problem: batch_dot
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor batch_dot(const torch::Tensor& a, const torch::Tensor& b);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

namespace {

constexpr int kThreads = 64;

__global__ void batch_dot_kernel(
    const double* __restrict__ a, const double* __restrict__ b, double* __restrict__ output, int64_t batch,
    int64_t length) {
  __shared__ double partial[kThreads];
  for (int64_t row = blockIdx.x; row < batch; row += gridDim.x) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < length; i += kThreads) {
      sum = fma(a[row * length + i], b[row * length + i], sum);
    }
    partial[threadIdx.x] = sum;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) {
        partial[threadIdx.x] += partial[threadIdx.x + half];
      }
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      output[row] = partial[0];
    }
    __syncthreads();
  }
}

}  // namespace

torch::Tensor batch_dot(const torch::Tensor& a, const torch::Tensor& b) {
  TORCH_CHECK(a.is_cuda() && b.is_cuda(), "batch_dot: expected tensors on a CUDA device");
  TORCH_CHECK(a.sizes() == b.sizes() && a.dim() == 2, "batch_dot: expected two equal matrices");
  const c10::cuda::CUDAGuard guard(a.device());
  const auto left = a.contiguous(), right = b.contiguous();
  const int64_t batch = a.size(0), length = a.size(1);
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto output = torch::empty({batch}, a.options());
  int active = 0;
  C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&active, batch_dot_kernel, kThreads, 0));
  const int64_t resident = active * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
  const int blocks = static_cast<int>(std::min(batch, std::max<int64_t>(resident, 1)));
  batch_dot_kernel<<<blocks, kThreads, 0, stream>>>(
      left.data_ptr<double>(), right.data_ptr<double>(), output.data_ptr<double>(), batch, length);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="batch_dot_occupancy",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["batch_dot"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, a: torch.Tensor, b: torch.Tensor):
        return extension.batch_dot(a, b)
