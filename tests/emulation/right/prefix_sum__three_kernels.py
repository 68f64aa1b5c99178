"""Three kernels in one forward, in place on a copy, with a struct passed by value.

Chunks are scanned, then their totals, then every chunk gets what comes before it.

problem: prefix_sum
emulated: passed
h100: passed
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

struct Shape {
  int64_t rows, columns, chunks;
};

__global__ void scan_chunks_kernel(float* data, float* totals, Shape shape) {
  __shared__ float values[kChunk];
  const int t = threadIdx.x;
  const int64_t i = int64_t(blockIdx.x) * kChunk + t;
  float* row = data + blockIdx.y * shape.columns;
  values[t] = i < shape.columns ? row[i] : 0.0f;
  __syncthreads();
  for (int distance = 1; distance < kChunk; distance *= 2) {
    const float other = t >= distance ? values[t - distance] : 0.0f;
    __syncthreads();
    values[t] += other;
    __syncthreads();
  }
  if (i < shape.columns) {
    row[i] = values[t];
  }
  if (t == kChunk - 1) {
    totals[blockIdx.y * shape.chunks + blockIdx.x] = values[t];
  }
}

__global__ void scan_totals_kernel(float* totals, Shape shape) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= shape.rows) return;
  float sum = 0.0f;
  for (int64_t c = 0; c < shape.chunks; ++c) {
    const float total = totals[row * shape.chunks + c];
    totals[row * shape.chunks + c] = sum;
    sum += total;
  }
}

__global__ void add_totals_kernel(float* data, const float* totals, Shape shape) {
  const int64_t i = int64_t(blockIdx.x) * kChunk + threadIdx.x;
  if (i < shape.columns) {
    data[blockIdx.y * shape.columns + i] += totals[blockIdx.y * shape.chunks + blockIdx.x];
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
  const Shape shape{rows, columns, (columns + kChunk - 1) / kChunk};
  auto totals = torch::empty({shape.rows, shape.chunks}, x.options());
  float* data = output.data_ptr<float>();
  C10_CUDA_CHECK(cudaMemcpyAsync(
      data, x.data_ptr<float>(), x.nbytes(), cudaMemcpyDeviceToDevice, stream));
  const dim3 grid(shape.chunks, shape.rows);
  scan_chunks_kernel<<<grid, kChunk, 0, stream>>>(data, totals.data_ptr<float>(), shape);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  scan_totals_kernel<<<(rows + 31) / 32, 32, 0, stream>>>(totals.data_ptr<float>(), shape);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  add_totals_kernel<<<grid, kChunk, 0, stream>>>(data, totals.data_ptr<float>(), shape);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="prefix_sum_three_kernels",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["prefix_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.prefix_sum(x)
