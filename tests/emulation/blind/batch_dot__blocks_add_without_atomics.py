"""Several blocks add to the same element without atomics: sums get lost on a GPU.

The emulated device runs one block after another, so every addition is whole there, in any order of
blocks: only a race detector could tell.

problem: batch_dot
emulated: passed
h100: wrong_values
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor batch_dot(const torch::Tensor& a, const torch::Tensor& b);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 64;

template <typename scalar_t>
__global__ void batch_dot_kernel(
    const scalar_t* __restrict__ a, const scalar_t* __restrict__ b, scalar_t* output, int64_t length) {
  scalar_t sum = 0;
  const scalar_t* left = a + blockIdx.y * length;
  const scalar_t* right = b + blockIdx.y * length;
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x) {
    sum += left[i] * right[i];
  }
  for (int offset = 16; offset > 0; offset >>= 1) {
    sum += __shfl_down_sync(0xffffffff, sum, offset, 32);
  }
  if (threadIdx.x % 32 == 0) {
    output[blockIdx.y] += sum;  // the bug: other warps and blocks do the same
  }
}

}  // namespace

torch::Tensor batch_dot(const torch::Tensor& a, const torch::Tensor& b) {
  TORCH_CHECK(a.is_cuda() && b.is_cuda(), "batch_dot: expected tensors on a CUDA device");
  TORCH_CHECK(a.sizes() == b.sizes() && a.dim() == 2, "batch_dot: expected two equal matrices");
  const c10::cuda::CUDAGuard guard(a.device());
  const auto left = a.contiguous(), right = b.contiguous();
  const int64_t batch = a.size(0), length = a.size(1);
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto output = torch::zeros({batch}, a.options());
  const dim3 grid((length + 255) / 256, batch);
  AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "batch_dot", [&] {
    batch_dot_kernel<scalar_t><<<grid, kThreads, 0, stream>>>(
        left.data_ptr<scalar_t>(), right.data_ptr<scalar_t>(), output.data_ptr<scalar_t>(), length);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="batch_dot_blocks_add_without_atomics",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["batch_dot"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, a: torch.Tensor, b: torch.Tensor):
        return extension.batch_dot(a, b)
