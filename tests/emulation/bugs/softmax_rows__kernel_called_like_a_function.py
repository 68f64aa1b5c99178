"""One of four kernels is called without <<<>>>.

problem: softmax_rows
emulated: build_failed
h100: build_failed
finding: clear_kernel
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor softmax_rows(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 128;

__device__ void atomic_max(float* address, float value) {
  int* bits = reinterpret_cast<int*>(address);
  int seen = atomicAdd(bits, 0);
  while (value > __int_as_float(seen)) {
    const int assumed = seen;
    seen = atomicCAS(bits, assumed, __float_as_int(value));
    if (seen == assumed) {
      break;
    }
  }
}

__global__ void clear_kernel(float* maxima, float* sums, int64_t rows) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row < rows) {
    maxima[row] = -INFINITY;
    sums[row] = 0.0f;
  }
}

__global__ void row_max_kernel(const float* __restrict__ input, float* maxima, int64_t columns) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column < columns) {
    atomic_max(&maxima[blockIdx.y], input[blockIdx.y * columns + column]);
  }
}

__global__ void exponential_kernel(
    const float* __restrict__ input, const float* maxima, float* sums, float* output, int64_t columns) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  float value = 0.0f;
  if (column < columns) {
    value = expf(input[blockIdx.y * columns + column] - maxima[blockIdx.y]);
    output[blockIdx.y * columns + column] = value;
  }
  for (int offset = 16; offset > 0; offset >>= 1) {
    value += __shfl_down_sync(0xffffffff, value, offset);
  }
  if (threadIdx.x % 32 == 0) {
    atomicAdd(&sums[blockIdx.y], value);
  }
}

__global__ void normalise_kernel(const float* sums, float* output, int64_t columns) {
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column < columns) {
    output[blockIdx.y * columns + column] /= sums[blockIdx.y];
  }
}

}  // namespace

torch::Tensor softmax_rows(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "softmax_rows: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows, columns}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto state = torch::empty({2, rows}, x.options());
  float* maxima = state.data_ptr<float>();
  float* sums = maxima + rows;
  const float* from = x.data_ptr<float>();
  float* to = output.data_ptr<float>();
  const dim3 grid((columns + kThreads - 1) / kThreads, rows);
  clear_kernel(maxima, sums, rows);  // the bug: a kernel is launched, not called
  row_max_kernel<<<grid, kThreads, 0, stream>>>(from, maxima, columns);
  exponential_kernel<<<grid, kThreads, 0, stream>>>(from, maxima, sums, to, columns);
  normalise_kernel<<<grid, kThreads, 0, stream>>>(sums, to, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="softmax_rows_kernel_called_like_a_function",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_rows"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.softmax_rows(x)
