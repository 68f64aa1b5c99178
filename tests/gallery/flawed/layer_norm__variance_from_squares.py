"""Takes the variance as the mean of the squares less the square of the mean, in one pass. For rows
far from zero compared with their spread that is a difference of large equal numbers, and little of
it is left.

gallery: naive_variance
emulated: wrong_values
h100: wrong_values
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps);
std::vector<torch::Tensor> layer_norm_backward(
    const torch::Tensor& grad_output, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& statistics);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <vector>

namespace {

constexpr int kThreads = 256;

// The sum over the block, given to every thread.
__device__ float block_sum(float value) {
  __shared__ float partial[kThreads];
  partial[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    __syncthreads();
  }
  const float sum = partial[0];
  __syncthreads();
  return sum;
}

// One block per row; statistics holds (mean, rstd) of every row.
__global__ void layer_norm_forward_kernel(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ y, float2* __restrict__ statistics, int64_t features, float eps) {
  const float* row = x + blockIdx.x * features;
  float sum = 0.0f, squares = 0.0f;
  for (int64_t i = threadIdx.x; i < features; i += kThreads) {
    sum += row[i];
    squares += row[i] * row[i];
  }
  const float mean = block_sum(sum) / features;
  const float variance = block_sum(squares) / features - mean * mean;
  const float rstd = 1.0f / sqrtf(fmaxf(variance, 0.0f) + eps);
  for (int64_t i = threadIdx.x; i < features; i += kThreads) {
    y[blockIdx.x * features + i] = (row[i] - mean) * rstd * weight[i] + bias[i];
  }
  if (threadIdx.x == 0) {
    statistics[blockIdx.x] = make_float2(mean, rstd);
  }
}

__global__ void layer_norm_grad_input_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ weight,
    const float2* __restrict__ statistics, float* __restrict__ dx, int64_t features) {
  const int64_t first = blockIdx.x * features;
  const float mean = statistics[blockIdx.x].x, rstd = statistics[blockIdx.x].y;
  float sum = 0.0f, projected = 0.0f;
  for (int64_t i = threadIdx.x; i < features; i += kThreads) {
    const float h = dy[first + i] * weight[i];
    sum += h;
    projected += h * (x[first + i] - mean) * rstd;
  }
  const float mean_h = block_sum(sum) / features;
  const float mean_projected = block_sum(projected) / features;
  for (int64_t i = threadIdx.x; i < features; i += kThreads) {
    const float normalised = (x[first + i] - mean) * rstd;
    dx[first + i] = rstd * (dy[first + i] * weight[i] - mean_h - normalised * mean_projected);
  }
}

// One thread per feature.
__global__ void layer_norm_grad_parameters_kernel(
    const float* __restrict__ dy, const float* __restrict__ x,
    const float2* __restrict__ statistics, float* __restrict__ grad_weight,
    float* __restrict__ grad_bias, int64_t rows, int64_t features) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= features) {
    return;
  }
  float weight_sum = 0.0f, bias_sum = 0.0f;
  for (int64_t row = 0; row < rows; ++row) {
    const float2 s = statistics[row];
    weight_sum += dy[row * features + i] * (x[row * features + i] - s.x) * s.y;
    bias_sum += dy[row * features + i];
  }
  grad_weight[i] = weight_sum;
  grad_bias[i] = bias_sum;
}

float2* statistics_of(const torch::Tensor& statistics) {
  return reinterpret_cast<float2*>(statistics.data_ptr<float>());
}

}  // namespace

std::vector<torch::Tensor> layer_norm_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto y = torch::empty(x.sizes(), x.options());
  auto statistics = torch::empty({rows, 2}, x.options());
  layer_norm_forward_kernel<<<rows, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(),
      statistics_of(statistics), features, eps);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {y, statistics};
}

std::vector<torch::Tensor> layer_norm_backward(
    const torch::Tensor& grad_output, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& statistics) {
  const c10::cuda::CUDAGuard guard(x.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto grad_x = torch::empty(x.sizes(), x.options());
  auto grad_weight = torch::empty(weight.sizes(), x.options());
  auto grad_bias = torch::empty(weight.sizes(), x.options());
  layer_norm_grad_input_kernel<<<rows, kThreads, 0, stream>>>(
      grad_output.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(),
      statistics_of(statistics), grad_x.data_ptr<float>(), features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const int feature_blocks = (features + kThreads - 1) / kThreads;
  layer_norm_grad_parameters_kernel<<<feature_blocks, kThreads, 0, stream>>>(
      grad_output.data_ptr<float>(), x.data_ptr<float>(), statistics_of(statistics),
      grad_weight.data_ptr<float>(), grad_bias.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_weight, grad_bias};
}
"""

extension = load_inline(
    name="layer_norm_kernels",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_forward", "layer_norm_backward"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x = x.contiguous()
        output, statistics = extension.layer_norm_forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, statistics)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        return *extension.layer_norm_backward(grad_output.contiguous(), *ctx.saved_tensors), None


class ModelNew(nn.Module):
    """Normalises the trailing dimensions, with a weight and a bias for each element."""

    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
