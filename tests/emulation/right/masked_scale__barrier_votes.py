"""Barriers that vote: __syncthreads_or skips what nobody chose, __syncthreads_count counts.

problem: masked_scale
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> masked_scale(const torch::Tensor& image, const torch::Tensor& mask);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 64;

__global__ void masked_scale_kernel(
    const unsigned char* __restrict__ image, const bool* __restrict__ mask, float* __restrict__ scaled,
    int64_t* __restrict__ counts, int width) {
  const int64_t start = int64_t(blockIdx.x) * width;
  int64_t count = 0;
  for (int first = 0; first < width; first += kThreads) {  // the same for all threads
    const int column = first + threadIdx.x;
    const bool chosen = column < width && mask[start + column];
    float value = 0.0f;
    if (__syncthreads_or(chosen)) {
      count += __syncthreads_count(chosen);
      value = chosen ? image[start + column] / 255.0f : 0.0f;
    }
    if (column < width) {
      scaled[start + column] = value;
    }
  }
  if (threadIdx.x == 0) {
    counts[blockIdx.x] = count;
  }
}

}  // namespace

std::vector<torch::Tensor> masked_scale(const torch::Tensor& image, const torch::Tensor& mask) {
  TORCH_CHECK(image.is_cuda() && mask.is_cuda(), "masked_scale: expected tensors on a CUDA device");
  TORCH_CHECK(image.sizes() == mask.sizes(), "masked_scale: one mask bit for every pixel");
  const c10::cuda::CUDAGuard guard(image.device());
  const auto pixels = image.contiguous(), bits = mask.contiguous();
  const int height = image.size(0), width = image.size(1);
  auto scaled = torch::empty({height, width}, image.options().dtype(torch::kFloat32));
  auto counts = torch::empty({height}, image.options().dtype(torch::kInt64));
  const auto stream = at::cuda::getCurrentCUDAStream();
  masked_scale_kernel<<<height, kThreads, 0, stream>>>(
      pixels.data_ptr<uint8_t>(), bits.data_ptr<bool>(), scaled.data_ptr<float>(),
      counts.data_ptr<int64_t>(), width);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {scaled, counts};
}
"""

extension = load_inline(
    name="masked_scale_barrier_votes",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["masked_scale"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, image: torch.Tensor, mask: torch.Tensor):
        return tuple(extension.masked_scale(image, mask))
