"""Layer normalisation that saves nothing but its inputs: the backward computes mean and deviation
of every row again, and the sums for weight and bias are made by the same kernel with atomics.

gallery: recomputed_in_backward
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor layer_norm_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps);
std::vector<torch::Tensor> layer_norm_backward(
    const torch::Tensor& grad, const torch::Tensor& x, const torch::Tensor& weight, double eps);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 32;         // features of a block of the parameters' kernel
constexpr int64_t kMostSlabs = 64;   // blocks that share its rows

__device__ float block_sum(float value) {
  __shared__ float warp_sums[kThreads / 32];
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = value;
  __syncthreads();
  value = 0.0f;
  for (int warp = 0; warp < kThreads / 32; ++warp) value += warp_sums[warp];
  return value;
}

struct Statistics {
  float mean, rstd;
};

__device__ Statistics statistics_of(const float* row, int64_t features, float eps) {
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < features; i += kThreads) sum += row[i];
  const float mean = block_sum(sum) / features;
  float squares = 0.0f;
  for (int64_t i = threadIdx.x; i < features; i += kThreads) {
    squares += (row[i] - mean) * (row[i] - mean);
  }
  return {mean, 1.0f / sqrtf(block_sum(squares) / features + eps)};
}

__global__ void layer_norm_forward_kernel(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ y, int64_t features, float eps) {
  const int64_t start = blockIdx.x * features;
  const Statistics row = statistics_of(x + start, features, eps);
  for (int64_t i = threadIdx.x; i < features; i += kThreads) {
    y[start + i] = (x[start + i] - row.mean) * row.rstd * weight[i] + bias[i];
  }
}

// Leaves the recomputed statistics to the kernel that follows.
__global__ void layer_norm_grad_input_kernel(
    const float* __restrict__ grad, const float* __restrict__ x, const float* __restrict__ weight,
    float* __restrict__ grad_x, Statistics* __restrict__ recomputed, int64_t features, float eps) {
  const int64_t start = blockIdx.x * features;
  const Statistics row = statistics_of(x + start, features, eps);
  float sum = 0.0f, product = 0.0f;
  for (int64_t i = threadIdx.x; i < features; i += kThreads) {
    const float h = grad[start + i] * weight[i];
    sum += h;
    product += h * (x[start + i] - row.mean) * row.rstd;
  }
  sum = block_sum(sum) / features;
  product = block_sum(product) / features;
  for (int64_t i = threadIdx.x; i < features; i += kThreads) {
    const float normal = (x[start + i] - row.mean) * row.rstd;
    grad_x[start + i] = row.rstd * (grad[start + i] * weight[i] - sum - normal * product);
  }
  if (threadIdx.x == 0) recomputed[blockIdx.x] = row;
}

__global__ void layer_norm_grad_parameters_kernel(
    const float* __restrict__ grad, const float* __restrict__ x,
    const Statistics* __restrict__ statistics, float* __restrict__ grad_weight,
    float* __restrict__ grad_bias, int64_t rows, int64_t features) {
  const int64_t feature = int64_t(blockIdx.x) * kColumns + threadIdx.x;
  if (feature >= features) return;
  const int64_t step = int64_t(gridDim.y) * blockDim.y;
  float scale = 0.0f, shift = 0.0f;
  for (int64_t r = int64_t(blockIdx.y) * blockDim.y + threadIdx.y; r < rows; r += step) {
    const float g = grad[r * features + feature];
    scale += g * (x[r * features + feature] - statistics[r].mean) * statistics[r].rstd;
    shift += g;
  }
  atomicAdd(grad_weight + feature, scale);
  atomicAdd(grad_bias + feature, shift);
}

}  // namespace

torch::Tensor layer_norm_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel();
  auto y = torch::empty_like(x);
  layer_norm_forward_kernel<<<
      x.numel() / features, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(),
      features, static_cast<float>(eps));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

std::vector<torch::Tensor> layer_norm_backward(
    const torch::Tensor& grad, const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto grad_x = torch::empty_like(x);
  auto grad_weight = torch::zeros_like(weight), grad_bias = torch::zeros_like(weight);
  auto statistics = torch::empty({rows, 2}, x.options());
  auto* recomputed = reinterpret_cast<Statistics*>(statistics.data_ptr<float>());
  layer_norm_grad_input_kernel<<<rows, kThreads, 0, stream>>>(
      grad.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(),
      grad_x.data_ptr<float>(), recomputed, features, static_cast<float>(eps));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const dim3 threads(kColumns, 8);
  const dim3 blocks(
      (features + kColumns - 1) / kColumns, std::min((rows + 63) / 64, kMostSlabs));
  layer_norm_grad_parameters_kernel<<<blocks, threads, 0, stream>>>(
      grad.data_ptr<float>(), x.data_ptr<float>(), recomputed, grad_weight.data_ptr<float>(),
      grad_bias.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_weight, grad_bias};
}
"""

extension = load_inline(
    name="layer_norm_statistics_recomputed",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_forward", "layer_norm_backward"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return extension.layer_norm_forward(x, weight, bias, eps)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensors
        gradients = extension.layer_norm_backward(grad_output.contiguous(), x, weight, ctx.eps)
        return (*gradients, None)


class ModelNew(nn.Module):
    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
