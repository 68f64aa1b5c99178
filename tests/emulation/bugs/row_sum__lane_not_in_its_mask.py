"""All lanes shuffle, with a mask that leaves out the upper half: undefined.

problem: row_sum
emulated: timed_out|runtime_error|wrong_values
h100: any
finding: never come|mask leaves it out|is wrong
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

template <typename scalar_t>
__global__ void row_sum_kernel(
    const scalar_t* __restrict__ input, scalar_t* __restrict__ output, int64_t rows, int64_t columns) {
  const int lane = threadIdx.x % warpSize;
  const int64_t row = int64_t(blockIdx.x) * (blockDim.x / warpSize) + threadIdx.x / warpSize;
  if (row >= rows) {
    return;
  }
  scalar_t sum = 0;
  for (int64_t c = lane; c < columns; c += warpSize) {
    sum += input[row * columns + c];
  }
  for (int offset = warpSize / 2; offset > 0; offset /= 2) {
    sum += __shfl_down_sync(0x0000ffff, sum, offset);  // the bug: 16 lanes are missing
  }
  if (lane == 0) {
    output[row] = sum;
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
  constexpr int kThreads = 128;
  const int blocks = (rows + kThreads / 32 - 1) / (kThreads / 32);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "row_sum", [&] {
    row_sum_kernel<scalar_t><<<blocks, kThreads, 0, stream>>>(
        x.data_ptr<scalar_t>(), output.data_ptr<scalar_t>(), rows, columns);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="row_sum_lane_not_in_its_mask",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
