"""The block with the highest index adds the partial sums, as if it were the last to finish.

problem: row_sum
emulated: racy|wrong_values
h100: passed|wrong_values
finding: depends on the order|is wrong
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor row_sum(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 64;
constexpr int kColumnsPerBlock = 256;

// The sum over the block, in thread 0.
template <int threads>
__device__ float block_sum(float value) {
  __shared__ float warp_sums[threads / 32];
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_down_sync(0xffffffff, value, offset);
  }
  if (threadIdx.x % 32 == 0) {
    warp_sums[threadIdx.x / 32] = value;
  }
  __syncthreads();
  value = 0.0f;
  if (threadIdx.x == 0) {
    for (int w = 0; w < threads / 32; ++w) {
      value += warp_sums[w];
    }
  }
  return value;
}

__global__ void row_sum_kernel(
    const float* input, float* output, float* partial, unsigned int* finished, int64_t columns) {
  __shared__ bool is_last;
  const int64_t row = blockIdx.y;
  float sum = 0.0f;
  const int64_t first = int64_t(blockIdx.x) * kColumnsPerBlock;
  for (int64_t c = first + threadIdx.x; c < min(first + kColumnsPerBlock, columns); c += kThreads) {
    sum += input[row * columns + c];
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) {
    partial[row * gridDim.x + blockIdx.x] = sum;
    __threadfence();
    is_last = blockIdx.x == gridDim.x - 1;  // the bug: blocks finish in any order
  }
  __syncthreads();
  if (!is_last) {
    return;
  }
  __threadfence();
  if (threadIdx.x == 0) {
    float total = 0.0f;
    for (unsigned int b = 0; b < gridDim.x; ++b) {
      total += partial[row * gridDim.x + b];
    }
    output[row] = total;
  }
}

}  // namespace

torch::Tensor row_sum(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "row_sum: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int64_t chunks = (columns + kColumnsPerBlock - 1) / kColumnsPerBlock;
  float* partial = nullptr;
  unsigned int* finished = nullptr;
  C10_CUDA_CHECK(cudaMallocAsync(reinterpret_cast<void**>(&partial), rows * chunks * sizeof(float), stream));
  C10_CUDA_CHECK(cudaMallocAsync(reinterpret_cast<void**>(&finished), rows * sizeof(unsigned int), stream));
  C10_CUDA_CHECK(cudaMemsetAsync(finished, 0, rows * sizeof(unsigned int), stream));
  row_sum_kernel<<<dim3(chunks, rows), kThreads, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), partial, finished, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  C10_CUDA_CHECK(cudaFreeAsync(partial, stream));
  C10_CUDA_CHECK(cudaFreeAsync(finished, stream));
  return output;
}
"""

extension = load_inline(
    name="row_sum_last_block_by_index",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
