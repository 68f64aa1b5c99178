"""The gradient of a factor in two kernels: a warp sums a row, then a thread sums over the batch.

problem: layer_scale
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor layer_scale_forward(const torch::Tensor& input, const torch::Tensor& gamma);
std::vector<torch::Tensor> layer_scale_backward(
    const torch::Tensor& grad_output, const torch::Tensor& input, const torch::Tensor& gamma);
"""

cuda_source = r"""
#include <torch/extension.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <vector>

namespace {

constexpr int kThreads = 128;

template <typename scalar_t>
__global__ void scale_channels_kernel(
    const scalar_t* __restrict__ input, const scalar_t* __restrict__ gamma, scalar_t* __restrict__ output,
    int64_t numel, int64_t channels, int64_t length) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < numel) {
    output[i] = input[i] * gamma[i / length % channels];
  }
}

template <typename scalar_t>
__global__ void row_gradient_kernel(
    const scalar_t* __restrict__ grad_output, const scalar_t* __restrict__ input, float* __restrict__ partial,
    int64_t rows, int64_t length) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < length; i += 32) {
    sum = fmaf(grad_output[row * length + i], input[row * length + i], sum);
  }
  for (int lane_mask = 16; lane_mask > 0; lane_mask >>= 1) {
    sum += __shfl_xor_sync(0xffffffff, sum, lane_mask);
  }
  if (threadIdx.x == 0) partial[row] = sum;
}

template <typename scalar_t>
__global__ void sum_over_batch_kernel(
    const float* __restrict__ partial, scalar_t* __restrict__ grad_gamma, int64_t batch, int64_t channels) {
  const int64_t channel = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  float sum = 0.0f;
  for (int64_t n = 0; n < batch; ++n) sum += partial[n * channels + channel];
  grad_gamma[channel] = sum;
}

}  // namespace

torch::Tensor layer_scale_forward(const torch::Tensor& input, const torch::Tensor& gamma) {
  TORCH_CHECK(input.is_cuda() && gamma.is_cuda(), "layer_scale: expected tensors on a CUDA device");
  TORCH_CHECK(input.dim() == 3 && input.size(1) == gamma.numel(), "layer_scale: one factor a channel");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous(), factors = gamma.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  const int64_t numel = x.numel();
  AT_DISPATCH_FLOATING_TYPES_AND_HALF(x.scalar_type(), "layer_scale_forward", [&] {
    scale_channels_kernel<scalar_t>
        <<<(numel + kThreads - 1) / kThreads, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
            x.data_ptr<scalar_t>(), factors.data_ptr<scalar_t>(), output.data_ptr<scalar_t>(), numel,
            x.size(1), x.size(2));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return output;
}

std::vector<torch::Tensor> layer_scale_backward(
    const torch::Tensor& grad_output, const torch::Tensor& input, const torch::Tensor& gamma) {
  const c10::cuda::CUDAGuard guard(input.device());
  const auto dy = grad_output.contiguous(), x = input.contiguous(), factors = gamma.contiguous();
  auto grad_input = torch::empty(x.sizes(), x.options());
  auto grad_gamma = torch::empty(factors.sizes(), factors.options());
  const int64_t numel = x.numel(), batch = x.size(0), channels = x.size(1), length = x.size(2);
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto partial = torch::empty({batch, channels}, x.options().dtype(torch::kFloat32));
  AT_DISPATCH_FLOATING_TYPES_AND_HALF(x.scalar_type(), "layer_scale_backward", [&] {
    scale_channels_kernel<scalar_t><<<(numel + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
        dy.data_ptr<scalar_t>(), factors.data_ptr<scalar_t>(), grad_input.data_ptr<scalar_t>(), numel,
        channels, length);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    const dim3 rows_of_warps(32, 4);
    row_gradient_kernel<scalar_t><<<(batch * channels + 3) / 4, rows_of_warps, 0, stream>>>(
        dy.data_ptr<scalar_t>(), x.data_ptr<scalar_t>(), partial.data_ptr<float>(), batch * channels, length);
    sum_over_batch_kernel<scalar_t><<<(channels + 31) / 32, 32, 0, stream>>>(
        partial.data_ptr<float>(), grad_gamma.data_ptr<scalar_t>(), batch, channels);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {grad_input, grad_gamma};
}
"""

extension = load_inline(
    name="layer_scale_two_stages",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_scale_forward", "layer_scale_backward"],
)


class LayerScaleFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, gamma)
        return extension.layer_scale_forward(x, gamma)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor):
        x, gamma = ctx.saved_tensors
        grad_x, grad_gamma = extension.layer_scale_backward(grad_output, x, gamma)
        return grad_x, grad_gamma


class ModelNew(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: torch.Tensor):
        return LayerScaleFunction.apply(x, self.gamma)
