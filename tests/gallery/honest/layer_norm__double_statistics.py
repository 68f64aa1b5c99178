"""A warp for each row, sums in double: with 53 bits, one walk for the sum and the sum of squares
loses nothing that float32 could tell. Mean and reciprocal deviation are kept for the backward as
one float64 tensor of pairs.

gallery: float64_statistics
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_by_warps(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps);
torch::Tensor layer_norm_input_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& statistics);
std::vector<torch::Tensor> layer_norm_parameter_gradients(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& statistics);
"""

cuda_source = r"""
#include <torch/types.h>

#include <vector>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kWarp = 32, kRowsPerBlock = 4, kLanes = 16;

// Mean (x) and reciprocal standard deviation (y) of a row.
using Statistics = double2;

__device__ __forceinline__ float normalised(float x, const Statistics& row) {
  return static_cast<float>((x - row.x) * row.y);
}

__device__ double2 warp_sum(double2 value) {
#pragma unroll
  for (int d = kWarp / 2; d > 0; d /= 2) {
    value.x += __shfl_xor_sync(0xffffffffu, value.x, d);
    value.y += __shfl_xor_sync(0xffffffffu, value.y, d);
  }
  return value;
}

__global__ void layer_norm_by_warps_kernel(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ y, Statistics* __restrict__ statistics, int64_t rows, int features,
    double eps) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.y;
  if (row >= rows) return;
  x += row * features;
  y += row * features;
  double2 sums = make_double2(0.0, 0.0);
  for (int i = threadIdx.x; i < features; i += kWarp) {
    const double value = x[i];
    sums.x += value;
    sums.y += value * value;
  }
  sums = warp_sum(sums);
  const double mean = sums.x / features;
  const double variance = fmax(sums.y / features - mean * mean, 0.0);
  const Statistics mine = make_double2(mean, rsqrt(variance + eps));
  for (int i = threadIdx.x; i < features; i += kWarp) {
    y[i] = normalised(x[i], mine) * weight[i] + bias[i];
  }
  if (threadIdx.x == 0) statistics[row] = mine;
}

__global__ void layer_norm_input_gradient_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ weight,
    const Statistics* __restrict__ statistics, float* __restrict__ dx, int64_t rows, int features) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.y;
  if (row >= rows) return;
  const int64_t start = row * features;
  const Statistics mine = statistics[row];
  double2 sums = make_double2(0.0, 0.0);
  for (int i = threadIdx.x; i < features; i += kWarp) {
    const float h = dy[start + i] * weight[i];
    sums.x += h;
    sums.y += double(h) * normalised(x[start + i], mine);
  }
  sums = warp_sum(sums);
  const float mean_h = static_cast<float>(sums.x / features);
  const float projection = static_cast<float>(sums.y / features);
  const float rstd = static_cast<float>(mine.y);
  for (int i = threadIdx.x; i < features; i += kWarp) {
    const float h = dy[start + i] * weight[i];
    dx[start + i] = rstd * (h - mean_h - normalised(x[start + i], mine) * projection);
  }
}

__global__ void layer_norm_parameter_gradients_kernel(
    const float* __restrict__ dy, const float* __restrict__ x,
    const Statistics* __restrict__ statistics, float* __restrict__ grad_weight,
    float* __restrict__ grad_bias, int64_t rows, int features) {
  __shared__ double2 partial[kLanes][kWarp];
  const int feature = blockIdx.x * kWarp + threadIdx.x;
  double2 sums = make_double2(0.0, 0.0);
  if (feature < features) {
    for (int64_t row = threadIdx.y; row < rows; row += kLanes) {
      const float gradient = dy[row * features + feature];
      sums.x += double(gradient) * normalised(x[row * features + feature], statistics[row]);
      sums.y += gradient;
    }
  }
  partial[threadIdx.y][threadIdx.x] = sums;
  for (int half = kLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      const double2 other = partial[threadIdx.y + half][threadIdx.x];
      partial[threadIdx.y][threadIdx.x].x += other.x;
      partial[threadIdx.y][threadIdx.x].y += other.y;
    }
  }
  if (threadIdx.y == 0 && feature < features) {
    grad_weight[feature] = static_cast<float>(partial[0][threadIdx.x].x);
    grad_bias[feature] = static_cast<float>(partial[0][threadIdx.x].y);
  }
}

Statistics* pairs(const torch::Tensor& statistics) {
  return reinterpret_cast<Statistics*>(statistics.data_ptr<double>());
}

unsigned blocks_for(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace

std::vector<torch::Tensor> layer_norm_by_warps(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "layer_norm: expected a dense CUDA tensor");
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto y = torch::empty(x.sizes(), x.options());
  auto statistics = torch::empty({rows, 2}, x.options().dtype(torch::kDouble));
  layer_norm_by_warps_kernel<<<
      blocks_for(rows, kRowsPerBlock), dim3(kWarp, kRowsPerBlock), 0,
      at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(),
      pairs(statistics), rows, features, eps);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {y, statistics};
}

torch::Tensor layer_norm_input_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& statistics) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto dx = torch::empty(x.sizes(), x.options());
  layer_norm_input_gradient_kernel<<<
      blocks_for(rows, kRowsPerBlock), dim3(kWarp, kRowsPerBlock), 0,
      at::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(), pairs(statistics),
      dx.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return dx;
}

std::vector<torch::Tensor> layer_norm_parameter_gradients(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& statistics) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto grad_weight = torch::empty(weight.sizes(), weight.options());
  auto grad_bias = torch::empty(weight.sizes(), weight.options());
  layer_norm_parameter_gradients_kernel<<<
      blocks_for(features, kWarp), dim3(kWarp, kLanes), 0, at::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), pairs(statistics), grad_weight.data_ptr<float>(),
      grad_bias.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_weight, grad_bias};
}
"""

extension = load_inline(
    name="layer_norm_by_warps",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=[
        "layer_norm_by_warps",
        "layer_norm_input_gradient",
        "layer_norm_parameter_gradients",
    ],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x = x.contiguous()
        y, statistics = extension.layer_norm_by_warps(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        saved = grad_output.contiguous(), *ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = extension.layer_norm_input_gradient(*saved)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_bias = extension.layer_norm_parameter_gradients(*saved)
        return grad_x, grad_weight, grad_bias, None


class ModelNew(nn.Module):
    """Gives every row mean 0 and variance 1, then scales and shifts each of its elements."""

    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
