"""A warp for every row: votes by __any_sync, __all_sync and __ballot_sync, uchar4 where aligned.

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

constexpr int kWarps = 2;
constexpr unsigned kAll = 0xffffffffu;

__global__ void masked_scale_kernel(
    const unsigned char* __restrict__ image, const bool* __restrict__ mask, float* __restrict__ scaled,
    int64_t* __restrict__ counts, int height, int width, bool aligned) {
  const int lane = threadIdx.x & 31;
  const int row = blockIdx.x * kWarps + (threadIdx.x >> 5);
  if (row >= height) return;
  const int64_t start = int64_t(row) * width;
  int count = 0;
  for (int first = 0; first < width; first += 128) {
    const int column = first + 4 * lane;
    unsigned char pixel[4] = {0, 0, 0, 0};
    if (aligned && column < width) {
      const uchar4 four = *reinterpret_cast<const uchar4*>(image + start + column);
      pixel[0] = four.x, pixel[1] = four.y, pixel[2] = four.z, pixel[3] = four.w;
    } else {
      for (int k = 0; k < 4 && column + k < width; ++k) {
        pixel[k] = image[start + column + k];
      }
    }
    for (int k = 0; k < 4; ++k) {
      const bool inside = column + k < width;
      const bool chosen = inside && mask[start + column + k];
      if (__all_sync(kAll, chosen)) {
        count += 32;
      } else if (__any_sync(kAll, chosen)) {
        count += __popc(__ballot_sync(kAll, chosen));
      }
      if (inside) {
        scaled[start + column + k] = chosen ? static_cast<float>(pixel[k]) / 255.0f : 0.0f;
      }
    }
  }
  if (lane == 0) {
    counts[row] = count;
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
  const uint8_t* from = pixels.data_ptr<uint8_t>();
  const bool aligned = width % 4 == 0 && reinterpret_cast<uintptr_t>(from) % 4 == 0;
  masked_scale_kernel<<<(height + kWarps - 1) / kWarps, 32 * kWarps, 0, stream>>>(
      from, bits.data_ptr<bool>(), scaled.data_ptr<float>(), counts.data_ptr<int64_t>(), height, width, aligned);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {scaled, counts};
}
"""

extension = load_inline(
    name="masked_scale_warp_votes",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["masked_scale"],
)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, image: torch.Tensor, mask: torch.Tensor):
        return tuple(extension.masked_scale(image, mask))
