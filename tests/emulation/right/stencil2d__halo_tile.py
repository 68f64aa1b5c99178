"""A tile with its border in 2-D shared memory, weights in registers by an unrolled loop.

problem: stencil2d
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor stencil2d(const torch::Tensor& input, const torch::Tensor& weight);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

#define TILE_WIDTH 16
#define TILE_HEIGHT 8

__global__ void stencil2d_kernel(
    const float* __restrict__ input, const float* __restrict__ weight, float* __restrict__ output,
    int height, int width) {
  __shared__ float tile[TILE_HEIGHT + 2][TILE_WIDTH + 2];
  const int first_row = blockIdx.y * TILE_HEIGHT - 1, first_column = blockIdx.x * TILE_WIDTH - 1;
  const size_t image = size_t(blockIdx.z) * height * width;
  const int rank = threadIdx.y * TILE_WIDTH + threadIdx.x;
  for (int i = rank; i < (TILE_HEIGHT + 2) * (TILE_WIDTH + 2); i += TILE_HEIGHT * TILE_WIDTH) {
    const int r = i / (TILE_WIDTH + 2), c = i % (TILE_WIDTH + 2);
    const int row = first_row + r, column = first_column + c;
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    tile[r][c] = inside ? input[image + row * width + column] : 0.0f;
  }
  float w[9];
#pragma unroll
  for (int i = 0; i < 9; ++i) {
    w[i] = __ldg(weight + i);
  }
  __syncthreads();

  const int row = first_row + 1 + threadIdx.y, column = first_column + 1 + threadIdx.x;
  if (row < height && column < width) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        sum += w[3 * i + j] * tile[threadIdx.y + i][threadIdx.x + j];
      }
    }
    output[image + row * width + column] = sum;
  }
}

}  // namespace

torch::Tensor stencil2d(const torch::Tensor& input, const torch::Tensor& weight) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 3, "stencil2d: expected images on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous(), w = weight.contiguous();
  const int images = x.size(0), height = x.size(1), width = x.size(2);
  auto output = torch::empty(x.sizes(), x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const dim3 block(TILE_WIDTH, TILE_HEIGHT);
  const dim3 grid(
      (width + TILE_WIDTH - 1) / TILE_WIDTH, (height + TILE_HEIGHT - 1) / TILE_HEIGHT, images);
  stencil2d_kernel<<<grid, block, 0, stream>>>(
      x.data_ptr<float>(), w.data_ptr<float>(), output.data_ptr<float>(), height, width);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="stencil2d_halo_tile",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["stencil2d"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 3), 1 / 9))

    def forward(self, x: torch.Tensor):
        return extension.stencil2d(x, self.weight)
