"""A comparison is one short: the last row of every matrix is never transposed.

problem: transpose
emulated: wrong_values
h100: wrong_values
finding: is wrong
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
  if (row < input.size(1) - 1 && column < input.size(2)) {  // the bug: the - 1
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
    name="transpose_last_row_never_written",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["transpose"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.transpose(x)
