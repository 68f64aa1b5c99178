"""The weights in __constant__ memory, copied there on the current stream; 2-D blocks, a 3-D grid.

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

__constant__ float filter[9];

__global__ void stencil2d_kernel(
    const float* __restrict__ input, float* __restrict__ output, int height, int width) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  const int row = blockIdx.y * blockDim.y + threadIdx.y;
  if (row >= height || column >= width) return;
  const float* image = input + int64_t(blockIdx.z) * height * width;
  float sum = 0.0f;
  for (int i = -1; i <= 1; ++i) {
    for (int j = -1; j <= 1; ++j) {
      const int r = row + i, c = column + j;
      if (r >= 0 && r < height && c >= 0 && c < width) {
        sum += filter[3 * (i + 1) + j + 1] * image[r * width + c];
      }
    }
  }
  output[(int64_t(blockIdx.z) * height + row) * width + column] = sum;
}

}  // namespace

torch::Tensor stencil2d(const torch::Tensor& input, const torch::Tensor& weight) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 3, "stencil2d: expected images on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous(), w = weight.contiguous();
  const int images = x.size(0), height = x.size(1), width = x.size(2);
  auto output = torch::empty(x.sizes(), x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cudaMemcpyToSymbolAsync(
      filter, w.data_ptr<float>(), 9 * sizeof(float), 0, cudaMemcpyDeviceToDevice, stream));
  const dim3 block(16, 8);
  const dim3 grid((width + 15) / 16, (height + 7) / 8, images);
  stencil2d_kernel<<<grid, block, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), height, width);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="stencil2d_constant_memory",
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
