"""ReLU on the bits: with its sign flipped, a float from -0 to -infinity is an integer of at most
0x7f800000; all others but +0 pass, NaN of either sign among them. A thread takes 16 bytes where
the tensors are aligned; the tail, and tensors that are not, go one element at a time.

gallery: integer_compare
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor select_by_sign(const torch::Tensor& values, const torch::Tensor& signs);
"""

cuda_source = r"""
#include <torch/types.h>

#include <cstdint>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 256, kVector = 4;
constexpr uint32_t kSignBit = 0x80000000u, kInfinity = 0x7f800000u;

// All ones where a float with these bits is positive or NaN, else zero.
__device__ __forceinline__ uint32_t passes(uint32_t bits) {
  return bits == 0u || (bits ^ kSignBit) <= kInfinity ? 0u : 0xffffffffu;
}

__device__ __forceinline__ uint4 select(uint4 value, uint4 sign) {
  return make_uint4(
      value.x & passes(sign.x), value.y & passes(sign.y), value.z & passes(sign.z),
      value.w & passes(sign.w));
}

// output = values where signs pass, else +0. Threads beyond the vectors take the single elements.
__global__ void select_by_sign_kernel(
    const uint32_t* __restrict__ values, const uint32_t* __restrict__ signs,
    uint32_t* __restrict__ output, int64_t vectors, int64_t numel) {
  const int64_t thread = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (thread < vectors) {
    const uint4 value = reinterpret_cast<const uint4*>(values)[thread];
    const uint4 sign = reinterpret_cast<const uint4*>(signs)[thread];
    reinterpret_cast<uint4*>(output)[thread] = select(value, sign);
  } else {
    const int64_t i = vectors * kVector + (thread - vectors);
    if (i < numel) output[i] = values[i] & passes(signs[i]);
  }
}

const uint32_t* bits_of(const torch::Tensor& x) {
  return reinterpret_cast<const uint32_t*>(x.data_ptr<float>());
}

bool is_aligned(const torch::Tensor& x) {
  return reinterpret_cast<uintptr_t>(x.data_ptr()) % (kVector * sizeof(float)) == 0;
}

}  // namespace

torch::Tensor select_by_sign(const torch::Tensor& values, const torch::Tensor& signs) {
  TORCH_CHECK(values.is_cuda() && signs.is_cuda(), "relu: expected CUDA tensors");
  TORCH_CHECK(values.is_contiguous() && signs.is_contiguous(), "relu: expected dense tensors");
  TORCH_CHECK(values.sizes() == signs.sizes(), "relu: shapes differ");
  const c10::cuda::CUDAGuard guard(values.device());
  auto output = torch::empty(values.sizes(), values.options());
  const bool aligned = is_aligned(values) && is_aligned(signs) && is_aligned(output);
  const int64_t numel = values.numel(), vectors = aligned ? numel / kVector : 0;
  const int64_t threads = vectors + (numel - vectors * kVector);
  const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  select_by_sign_kernel<<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      bits_of(values), bits_of(signs), reinterpret_cast<uint32_t*>(output.data_ptr<float>()),
      vectors, numel);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
"""

extension = load_inline(
    name="relu_integer_compare",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["select_by_sign"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        ctx.save_for_backward(x)
        return extension.select_by_sign(x, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return extension.select_by_sign(grad_output.contiguous(), x)


class ModelNew(nn.Module):
    """Replaces every negative element by zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
