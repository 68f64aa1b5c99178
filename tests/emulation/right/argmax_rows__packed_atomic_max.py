"""Value and index packed into 64 bits whose order is that of the floats; a 64-bit atomicMax.

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

// Larger for larger values; among equal ones, for smaller indices.
__device__ unsigned long long packed(float value, unsigned int index) {
  const unsigned int bits = __float_as_uint(value);
  const unsigned int ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (static_cast<unsigned long long>(ordered) << 32) | (0xffffffffu - index);
}

__global__ void find_largest_kernel(
    const float* __restrict__ input, unsigned long long* keys, int columns) {
  const int row = blockIdx.y, column = blockIdx.x * kThreads + threadIdx.x;
  unsigned long long key = column < columns ? packed(input[int64_t(row) * columns + column], column) : 0;
  for (int offset = 16; offset > 0; offset /= 2) {
    const unsigned long long other = __shfl_down_sync(0xffffffff, key, offset);
    key = other > key ? other : key;
  }
  if (threadIdx.x % 32 == 0) {
    atomicMax(&keys[row], key);
  }
}

__global__ void unpack_index_kernel(const unsigned long long* keys, int64_t* output, int rows) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row < rows) {
    output[row] = 0xffffffffu - static_cast<unsigned int>(keys[row] & 0xffffffffu);
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
  auto keys = torch::empty({rows}, output.options());
  auto* key_data = reinterpret_cast<unsigned long long*>(keys.data_ptr<int64_t>());
  C10_CUDA_CHECK(cudaMemsetAsync(key_data, 0, keys.nbytes(), stream));
  const dim3 grid((columns + kThreads - 1) / kThreads, rows);
  find_largest_kernel<<<grid, kThreads, 0, stream>>>(x.data_ptr<float>(), key_data, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  unpack_index_kernel<<<(rows + 63) / 64, 64, 0, stream>>>(key_data, output.data_ptr<int64_t>(), rows);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="argmax_rows_packed_atomic_max",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["argmax_rows"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.argmax_rows(x)
