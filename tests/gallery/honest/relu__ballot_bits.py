"""The forward keeps one bit an element for the backward: each warp votes, and one lane writes the
32 votes as a word. The bits say which elements pass, NaN among them.

gallery: ballot_bits
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> relu_with_bits(const torch::Tensor& x);
torch::Tensor relu_gradient_by_bits(const torch::Tensor& grad_output, const torch::Tensor& bits);
"""

cuda_source = r"""
#include <torch/types.h>

#include <vector>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 256, kWarp = 32;

__global__ void relu_with_bits_kernel(
    const float* __restrict__ x, float* __restrict__ y, int* __restrict__ bits, int64_t numel) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const float value = i < numel ? x[i] : 0.0f;
  const bool passes = !(value <= 0.0f);
  const unsigned votes = __ballot_sync(0xffffffffu, passes);
  if (i >= numel) return;
  y[i] = passes ? value : 0.0f;
  if (i % kWarp == 0) bits[i / kWarp] = static_cast<int>(votes);
}

__global__ void relu_gradient_by_bits_kernel(
    const float* __restrict__ grad_output, const int* __restrict__ bits,
    float* __restrict__ grad_input, int64_t numel) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= numel) return;
  const bool passes = static_cast<unsigned>(bits[i / kWarp]) >> (i % kWarp) & 1u;
  grad_input[i] = passes ? grad_output[i] : 0.0f;
}

unsigned block_count(int64_t numel) {
  return static_cast<unsigned>((numel + kThreads - 1) / kThreads);
}

}  // namespace

std::vector<torch::Tensor> relu_with_bits(const torch::Tensor& x) {
  TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "relu: expected a dense CUDA tensor");
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t numel = x.numel();
  auto y = torch::empty(x.sizes(), x.options());
  auto bits = torch::empty({(numel + kWarp - 1) / kWarp}, x.options().dtype(torch::kInt));
  relu_with_bits_kernel<<<block_count(numel), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), y.data_ptr<float>(), bits.data_ptr<int>(), numel);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {y, bits};
}

torch::Tensor relu_gradient_by_bits(const torch::Tensor& grad_output, const torch::Tensor& bits) {
  TORCH_CHECK(grad_output.is_cuda() && grad_output.is_contiguous(), "relu: expected dense data");
  const c10::cuda::CUDAGuard guard(grad_output.device());
  const int64_t numel = grad_output.numel();
  auto grad_input = torch::empty(grad_output.sizes(), grad_output.options());
  relu_gradient_by_bits_kernel<<<
      block_count(numel), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      grad_output.data_ptr<float>(), bits.data_ptr<int>(), grad_input.data_ptr<float>(), numel);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

extension = load_inline(
    name="relu_ballot_bits",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_with_bits", "relu_gradient_by_bits"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y, bits = extension.relu_with_bits(x.contiguous())
        ctx.save_for_backward(bits)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (bits,) = ctx.saved_tensors
        return extension.relu_gradient_by_bits(grad_output.contiguous(), bits)


class ModelNew(nn.Module):
    """Replaces every negative element by zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
