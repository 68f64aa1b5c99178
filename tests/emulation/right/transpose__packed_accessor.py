"""PackedTensorAccessor32 and 64 with the input's own strides, 2-D blocks, a 3-D grid.

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
#include <torch/extension.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kSide = 16;

template <typename scalar_t>
__global__ void transpose_kernel(
    const torch::PackedTensorAccessor32<scalar_t, 3, torch::RestrictPtrTraits> input,
    torch::PackedTensorAccessor64<scalar_t, 3, torch::RestrictPtrTraits> output) {
  const int matrix = blockIdx.z;
  const int row = blockIdx.y * blockDim.y + threadIdx.y;
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (row < input.size(1) && column < input.size(2)) {
    output[matrix][column][row] = input[matrix][row][column];
  }
}

}  // namespace

torch::Tensor transpose(const torch::Tensor& input) {
  TORCH_CHECK(input.device().is_cuda(), "transpose: expected matrices on a CUDA device");
  TORCH_CHECK(input.dim() == 3, "transpose: expected three dimensions");
  const at::cuda::CUDAGuard guard(input.device());
  auto output = torch::empty({input.size(0), input.size(2), input.size(1)}, input.options());
  const dim3 block(kSide, kSide, 1);
  const dim3 grid(
      (input.size(2) + block.x - 1) / block.x, (input.size(1) + block.y - 1) / block.y, input.size(0));
  AT_DISPATCH_FLOATING_TYPES(input.scalar_type(), "transpose", ([&] {
    transpose_kernel<scalar_t><<<grid, block, 0, at::cuda::getCurrentCUDAStream()>>>(
        input.packed_accessor32<scalar_t, 3, torch::RestrictPtrTraits>(),
        output.packed_accessor64<scalar_t, 3, torch::RestrictPtrTraits>());
  }));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="transpose_packed_accessor",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["transpose"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.transpose(x)
