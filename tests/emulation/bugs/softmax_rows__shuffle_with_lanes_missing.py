"""Half of a warp shuffles with a mask that names all lanes; the other half waits at a barrier.

What a GPU does then is undefined: it may hang, or go on.

problem: softmax_rows
emulated: timed_out
h100: any
finding: never come|never reach
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

__global__ void softmax_rows_kernel(const float* __restrict__ input, float* __restrict__ output, int columns) {
  __shared__ float sum;
  const float* row = input + int64_t(blockIdx.x) * columns;
  float maximum = -INFINITY, partial = 0.0f;
  for (int c = 0; c < columns; ++c) {
    maximum = fmaxf(maximum, row[c]);
  }
  if (threadIdx.x < 16) {
    for (int c = threadIdx.x; c < columns; c += 16) {
      partial += expf(row[c] - maximum);
    }
    for (int offset = 8; offset > 0; offset /= 2) {
      partial += __shfl_down_sync(0xffffffff, partial, offset);  // the bug: lanes 16 to 31 are not here
    }
    if (threadIdx.x == 0) {
      sum = partial;
    }
  }
  __syncthreads();
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    output[int64_t(blockIdx.x) * columns + c] = expf(row[c] - maximum) / sum;
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
  softmax_rows_kernel<<<rows, 32, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), static_cast<int>(columns));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="softmax_rows_shuffle_with_lanes_missing",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_rows"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.softmax_rows(x)
