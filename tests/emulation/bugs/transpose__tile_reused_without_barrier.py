"""A block goes on to its next tile while some threads still read the last one (write after read).

problem: transpose
emulated: racy|wrong_values
h100: passed|wrong_values
finding: depends on the order|is wrong
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

constexpr int kTile = 16;

__global__ void transpose_kernel(
    const float* __restrict__ input, float* __restrict__ output, int rows, int columns) {
  __shared__ float tile[kTile][kTile + 1];
  const int64_t matrix = int64_t(blockIdx.z) * rows * columns;
  const int tx = threadIdx.x, ty = threadIdx.y, first_row = blockIdx.y * kTile;
  for (int first_column = 0; first_column < columns; first_column += kTile) {
    if (first_row + ty < rows && first_column + tx < columns) {
      tile[ty][tx] = input[matrix + int64_t(first_row + ty) * columns + first_column + tx];
    }
    __syncthreads();
    if (first_row + tx < rows && first_column + ty < columns) {
      output[matrix + int64_t(first_column + ty) * rows + first_row + tx] = tile[tx][ty];
    }
    // the bug: no __syncthreads() before the next tile is written
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
  const dim3 grid(1, (rows + kTile - 1) / kTile, batch);
  transpose_kernel<<<grid, dim3(kTile, kTile), 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), rows, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="transpose_tile_reused_without_barrier",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["transpose"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.transpose(x)
