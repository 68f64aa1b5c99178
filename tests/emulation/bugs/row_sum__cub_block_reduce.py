"""Right, with CUB's block reduction.

problem: row_sum
emulated: unsupported
h100: passed
finding: CUB
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

#include <cub/cub.cuh>

namespace {

constexpr int kThreads = 128;

__global__ void row_sum_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t columns) {
  using BlockReduce = cub::BlockReduce<float, kThreads>;
  __shared__ typename BlockReduce::TempStorage storage;
  float sum = 0.0f;
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
    sum += input[blockIdx.x * columns + c];
  }
  sum = BlockReduce(storage).Sum(sum);
  if (threadIdx.x == 0) {
    output[blockIdx.x] = sum;
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
  row_sum_kernel<<<rows, kThreads, 0, stream>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="row_sum_cub_block_reduce",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
