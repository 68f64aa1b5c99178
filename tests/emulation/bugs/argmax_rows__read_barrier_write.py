"""Threads compare with the best so far, wait, and then write: the last writer wins, not the best.

problem: argmax_rows
emulated: racy|wrong_values
h100: wrong_values
finding: depends on the order|is wrong
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor argmax_rows(const torch::Tensor& input);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 64;

__global__ void argmax_rows_kernel(
    const float* __restrict__ input, float* best, int64_t* best_index, int64_t columns) {
  const int64_t row = blockIdx.x;
  if (threadIdx.x == 0) {
    best[row] = -INFINITY;
  }
  for (int64_t first = 0; first < columns; first += kThreads) {
    __syncthreads();
    const int64_t c = first + threadIdx.x;
    const bool larger = c < columns && input[row * columns + c] > best[row];
    __syncthreads();
    if (larger) {  // the bug: several threads get here, and none looks again
      best[row] = input[row * columns + c];
      best_index[row] = c;
    }
  }
}

}  // namespace

torch::Tensor argmax_rows(const torch::Tensor& input) {
  TORCH_CHECK(input.is_cuda() && input.dim() == 2, "argmax_rows: expected a matrix on a CUDA device");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  const int64_t rows = x.size(0), columns = x.size(1);
  auto output = torch::empty({rows}, x.options().dtype(torch::kInt64));
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto best = torch::empty({rows}, x.options());
  argmax_rows_kernel<<<rows, kThreads, 0, stream>>>(
      x.data_ptr<float>(), best.data_ptr<float>(), output.data_ptr<int64_t>(), columns);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="argmax_rows_read_barrier_write",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["argmax_rows"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.argmax_rows(x)
