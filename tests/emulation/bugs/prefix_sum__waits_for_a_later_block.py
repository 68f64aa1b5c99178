"""Blocks wait for the block with the next higher index: right only while the GPU holds all of them.

The first block goes last, and blocks start in any order.

problem: prefix_sum
emulated: timed_out|unsupported|racy
h100: passed|timed_out
finding: runs on and on|depends on the order
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor prefix_sum(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kChunk = 128;

__global__ void prefix_sum_kernel(
    const float* __restrict__ input, float* __restrict__ output, float* prefixes, int* flags,
    int* tickets, int64_t columns, int chunks) {
  __shared__ float values[kChunk];
  __shared__ int ticket;
  __shared__ float before;
  const int t = threadIdx.x;
  if (t == 0) {
    ticket = gridDim.x - 1 - blockIdx.x;  // the bug: who is waited for may not have started
  }
  __syncthreads();
  const int64_t row = ticket / chunks;
  const int chunk = ticket % chunks;
  const int64_t i = int64_t(chunk) * kChunk + t;
  values[t] = i < columns ? input[row * columns + i] : 0.0f;
  __syncthreads();
  for (int distance = 1; distance < kChunk; distance *= 2) {
    const float other = t >= distance ? values[t - distance] : 0.0f;
    __syncthreads();
    values[t] += other;
    __syncthreads();
  }
  if (t == 0) {
    float sum = 0.0f;
    if (chunk > 0) {
      while (atomicAdd(&flags[ticket - 1], 0) == 0) {
      }
      __threadfence();
      sum = atomicAdd(&prefixes[ticket - 1], 0.0f);
    }
    before = sum;
    atomicExch(&prefixes[ticket], sum + values[kChunk - 1]);
    __threadfence();
    atomicExch(&flags[ticket], 1);
  }
  __syncthreads();
  if (i < columns) {
    output[row * columns + i] = before + values[t];
  }
}

}  // namespace

torch::Tensor prefix_sum(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "prefix_sum: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows, columns}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int chunks = (columns + kChunk - 1) / kChunk;
  auto prefixes = torch::empty({rows * chunks}, x.options());
  auto flags = torch::zeros({rows * chunks + 1}, x.options().dtype(torch::kInt32));
  int* flag_data = flags.data_ptr<int>();
  prefix_sum_kernel<<<rows * chunks, kChunk, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), prefixes.data_ptr<float>(), flag_data,
      flag_data + rows * chunks, columns, chunks);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="prefix_sum_waits_for_a_later_block",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["prefix_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.prefix_sum(x)
