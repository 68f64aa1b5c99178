"""A tile of 66 KB in dynamic shared memory, which cudaFuncSetAttribute has to allow first.

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

constexpr int kTile = 128;
constexpr int kPitch = kTile + 1;
constexpr int kSharedBytes = kTile * kPitch * sizeof(float);

__global__ void transpose_kernel(
    const float* __restrict__ input, float* __restrict__ output, int rows, int columns) {
  extern __shared__ float tile[];
  const int64_t matrix = int64_t(blockIdx.z) * rows * columns;
  const int first_row = blockIdx.y * kTile, first_column = blockIdx.x * kTile;
  const int height = min(kTile, rows - first_row), width = min(kTile, columns - first_column);
  for (int r = threadIdx.y; r < height; r += blockDim.y) {
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
      tile[r * kPitch + c] = input[matrix + int64_t(first_row + r) * columns + first_column + c];
    }
  }
  __syncthreads();
  for (int c = threadIdx.y; c < width; c += blockDim.y) {
    for (int r = threadIdx.x; r < height; r += blockDim.x) {
      output[matrix + int64_t(first_column + c) * rows + first_row + r] = tile[r * kPitch + c];
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
  C10_CUDA_CHECK(cudaFuncSetAttribute(
      transpose_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  const dim3 grid((columns + kTile - 1) / kTile, (rows + kTile - 1) / kTile, batch);
  transpose_kernel<<<grid, dim3(32, 8), kSharedBytes, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), rows, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="transpose_large_tile",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["transpose"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.transpose(x)
