"""A padded 2-D tile in static shared memory, blocks of 32 x 8, a 3-D grid.

problem: transpose
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor transpose(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kTile = 32;
constexpr int kBlockRows = 8;

__global__ void transpose_kernel(
    const float* __restrict__ input, float* __restrict__ output, int rows, int columns) {
  __shared__ float tile[kTile][kTile + 1];
  const int64_t matrix = int64_t(blockIdx.z) * rows * columns;
  const int column = blockIdx.x * kTile + threadIdx.x;
  for (int j = threadIdx.y; j < kTile; j += kBlockRows) {
    const int row = blockIdx.y * kTile + j;
    if (row < rows && column < columns) {
      tile[j][threadIdx.x] = input[matrix + int64_t(row) * columns + column];
    }
  }
  __syncthreads();
  const int row = blockIdx.y * kTile + threadIdx.x;
  for (int j = threadIdx.y; j < kTile; j += kBlockRows) {
    const int out_row = blockIdx.x * kTile + j;
    if (row < rows && out_row < columns) {
      output[matrix + int64_t(out_row) * rows + row] = tile[threadIdx.x][j];
    }
  }
}

}  // namespace

torch::Tensor transpose(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 3, "transpose: expected matrices on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int batch = x.size(0), rows = x.size(1), columns = x.size(2);
  auto output = torch::empty({batch, columns, rows}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const dim3 block(kTile, kBlockRows);
  const dim3 grid((columns + kTile - 1) / kTile, (rows + kTile - 1) / kTile, batch);
  transpose_kernel<<<grid, block, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), rows, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="transpose_padded_tile",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["transpose"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.transpose(x)
