"""Right, with asynchronous copies from global to shared memory (cp.async).

problem: row_sum
emulated: unsupported
h100: passed
finding: asynchronous copy
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

#include <cuda_pipeline.h>

namespace {

constexpr int kThreads = 128;

__global__ void row_sum_kernel(
    const float* __restrict__ input, float* __restrict__ output, int64_t columns) {
  __shared__ float staged[kThreads];
  __shared__ float sum;
  if (threadIdx.x == 0) {
    sum = 0.0f;
  }
  float mine = 0.0f;
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
    __pipeline_memcpy_async(&staged[threadIdx.x], &input[blockIdx.x * columns + c], sizeof(float));
    __pipeline_commit();
    __pipeline_wait_prior(0);
    mine += staged[threadIdx.x];
  }
  __syncthreads();
  atomicAdd(&sum, mine);
  __syncthreads();
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
    name="row_sum_async_copy",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["row_sum"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return extension.row_sum(x)
