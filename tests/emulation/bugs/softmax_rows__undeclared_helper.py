"""A kernel uses a helper that nobody wrote.

problem: softmax_rows
emulated: build_failed
h100: build_failed
finding: warp_sum
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

constexpr int kWarps = 4;

__device__ float warp_max(float value) {
  for (int mask = 16; mask > 0; mask /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, mask));
  }
  return value;
}

__global__ void softmax_rows_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t rows, int64_t columns) {
  const int lane = threadIdx.x % 32;
  const int64_t stride = int64_t(gridDim.x) * kWarps;
  for (int64_t row = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32; row < rows; row += stride) {
    const float* from = input + row * columns;
    float maximum = -INFINITY;
    for (int64_t c = lane; c < columns; c += 32) {
      maximum = fmaxf(maximum, from[c]);
    }
    maximum = warp_max(maximum);
    float sum = 0.0f;
    for (int64_t c = lane; c < columns; c += 32) {
      sum += __expf(from[c] - maximum);
    }
    sum = warp_sum(sum);  // the bug: there is no such function
    for (int64_t c = lane; c < columns; c += 32) {
      output[row * columns + c] = __fdividef(__expf(from[c] - maximum), sum);
    }
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
  const int blocks = (rows + kWarps - 1) / kWarps;
  softmax_rows_kernel<<<blocks, 32 * kWarps, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), rows, columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="softmax_rows_undeclared_helper",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["softmax_rows"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.softmax_rows(x)
