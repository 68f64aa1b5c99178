"""Right, with a barrier of the whole grid (a cooperative launch).

problem: row_sum
emulated: unsupported
h100: passed
finding: cooperative launch|barrier of the grid
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

#include <cooperative_groups.h>

namespace cg = cooperative_groups;

namespace {

constexpr int kThreads = 64;
constexpr int kBlocks = 16;

__global__ void row_sum_kernel(
    const float* input, float* output, float* partial, int64_t rows, int64_t columns) {
  const cg::grid_group grid = cg::this_grid();
  const int64_t thread = grid.thread_rank(), threads = grid.size();
  for (int64_t row = 0; row < rows; ++row) {
    float sum = 0.0f;
    for (int64_t c = thread; c < columns; c += threads) {
      sum += input[row * columns + c];
    }
    partial[row * threads + thread] = sum;
  }
  grid.sync();
  for (int64_t row = thread; row < rows; row += threads) {
    float sum = 0.0f;
    for (int64_t t = 0; t < threads; ++t) {
      sum += partial[row * threads + t];
    }
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
  auto partial = torch::empty({rows, kBlocks * kThreads}, x.options());
  const float* from = x.data_ptr<float>();
  float* to = output.data_ptr<float>();
  float* between = partial.data_ptr<float>();
  int64_t row_count = rows, column_count = columns;
  void* args[] = {&from, &to, &between, &row_count, &column_count};
  C10_CUDA_CHECK(cudaLaunchCooperativeKernel(
      reinterpret_cast<const void*>(row_sum_kernel), kBlocks, kThreads, args, 0, stream));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="row_sum_grid_barrier",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
