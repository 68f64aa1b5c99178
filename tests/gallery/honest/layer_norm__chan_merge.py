"""Statistics from one walk over the row: every thread keeps count, mean and squared deviations
(Welford), and threads merge theirs by Chan's formula. The backward is folded into three
coefficients for each row.

gallery: algebra_fold
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_merged(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps);
std::vector<torch::Tensor> layer_norm_folded_gradients(
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

constexpr int kWarp = 32, kThreads = 256, kWarps = kThreads / kWarp, kLanes = 8;

struct Moments {
  float count = 0.0f, mean = 0.0f, squares = 0.0f;

  __device__ void add(float x) {
    count += 1.0f;
    const float off = x - mean;
    mean += off / count;
    squares += off * (x - mean);
  }
  __device__ void merge(const Moments& other) {
    const float both = count + other.count;
    if (both == 0.0f) return;
    const float off = other.mean - mean, share = other.count / both;
    mean += off * share;
    squares += other.squares + off * off * count * share;
    count = both;
  }
};

__device__ Moments reduce(Moments mine) {
  __shared__ Moments warps[kWarps];
  for (int d = kWarp / 2; d > 0; d /= 2) {
    Moments other;
    other.count = __shfl_xor_sync(0xffffffffu, mine.count, d);
    other.mean = __shfl_xor_sync(0xffffffffu, mine.mean, d);
    other.squares = __shfl_xor_sync(0xffffffffu, mine.squares, d);
    mine.merge(other);
  }
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = mine;
  __syncthreads();
  Moments all;
  for (const Moments& warp : warps) all.merge(warp);
  return all;
}

__device__ float2 reduce(float2 mine) {
  __shared__ float2 warps[kWarps];
  for (int d = kWarp / 2; d > 0; d /= 2) {
    mine.x += __shfl_xor_sync(0xffffffffu, mine.x, d);
    mine.y += __shfl_xor_sync(0xffffffffu, mine.y, d);
  }
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = mine;
  __syncthreads();
  float2 all = make_float2(0.0f, 0.0f);
  for (const float2& warp : warps) all = make_float2(all.x + warp.x, all.y + warp.y);
  return all;
}

__global__ void __launch_bounds__(kThreads) layer_norm_merged_kernel(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ y, float2* __restrict__ statistics, int features, float eps) {
  const int64_t start = int64_t(blockIdx.x) * features;
  Moments row;
  for (int i = threadIdx.x; i < features; i += kThreads) row.add(x[start + i]);
  row = reduce(row);
  const float rstd = rsqrtf(row.squares / features + eps);
  for (int i = threadIdx.x; i < features; i += kThreads) {
    y[start + i] = fmaf((x[start + i] - row.mean) * rstd, weight[i], bias[i]);
  }
  if (threadIdx.x == 0) statistics[blockIdx.x] = make_float2(row.mean, rstd);
}

// dx = rstd * h - slope * (x - mean) - offset, with h = dy * weight.
__global__ void __launch_bounds__(kThreads) layer_norm_folded_gradient_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ weight,
    const float2* __restrict__ statistics, float* __restrict__ dx, int features) {
  const int64_t start = int64_t(blockIdx.x) * features;
  const float mean = statistics[blockIdx.x].x, rstd = statistics[blockIdx.x].y;
  float2 sums = make_float2(0.0f, 0.0f);
  for (int i = threadIdx.x; i < features; i += kThreads) {
    const float h = dy[start + i] * weight[i];
    sums.x += h;
    sums.y += h * ((x[start + i] - mean) * rstd);
  }
  sums = reduce(sums);
  const float offset = rstd * (sums.x / features), slope = rstd * (sums.y / features) * rstd;
  for (int i = threadIdx.x; i < features; i += kThreads) {
    const float h = dy[start + i] * weight[i];
    dx[start + i] = fmaf(rstd, h, -fmaf(slope, x[start + i] - mean, offset));
  }
}

// One block for 32 features: kLanes threads share the rows of each.
__global__ void layer_norm_parameter_gradients_kernel(
    const float* __restrict__ dy, const float* __restrict__ x,
    const float2* __restrict__ statistics, float* __restrict__ grad_weight,
    float* __restrict__ grad_bias, int64_t rows, int features) {
  __shared__ float2 partial[kLanes][kWarp];
  const int feature = blockIdx.x * kWarp + threadIdx.x;
  float2 sums = make_float2(0.0f, 0.0f);
  for (int64_t row = threadIdx.y; row < rows && feature < features; row += kLanes) {
    const float gradient = dy[row * features + feature];
    const float2 mean_rstd = statistics[row];
    sums.x += gradient * ((x[row * features + feature] - mean_rstd.x) * mean_rstd.y);
    sums.y += gradient;
  }
  partial[threadIdx.y][threadIdx.x] = sums;
  __syncthreads();
  if (threadIdx.y != 0 || feature >= features) return;
  for (int lane = 1; lane < kLanes; ++lane) {
    sums.x += partial[lane][threadIdx.x].x;
    sums.y += partial[lane][threadIdx.x].y;
  }
  grad_weight[feature] = sums.x;
  grad_bias[feature] = sums.y;
}

float2* pairs(const torch::Tensor& statistics) {
  return reinterpret_cast<float2*>(statistics.data_ptr<float>());
}

}  // namespace

std::vector<torch::Tensor> layer_norm_merged(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "layer_norm: expected a dense CUDA tensor");
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto y = torch::empty(x.sizes(), x.options()), statistics = torch::empty({rows, 2}, x.options());
  layer_norm_merged_kernel<<<rows, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(),
      pairs(statistics), features, static_cast<float>(eps));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {y, statistics};
}

std::vector<torch::Tensor> layer_norm_folded_gradients(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& statistics) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto dx = torch::empty(x.sizes(), x.options());
  auto grad_weight = torch::empty(weight.sizes(), weight.options());
  auto grad_bias = torch::empty(weight.sizes(), weight.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  layer_norm_folded_gradient_kernel<<<rows, kThreads, 0, stream>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(), pairs(statistics),
      dx.data_ptr<float>(), features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const unsigned blocks = static_cast<unsigned>((features + kWarp - 1) / kWarp);
  layer_norm_parameter_gradients_kernel<<<blocks, dim3(kWarp, kLanes), 0, stream>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), pairs(statistics), grad_weight.data_ptr<float>(),
      grad_bias.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {dx, grad_weight, grad_bias};
}
"""

extension = load_inline(
    name="layer_norm_merged",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_merged", "layer_norm_folded_gradients"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x = x.contiguous()
        y, statistics = extension.layer_norm_merged(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        gradients = extension.layer_norm_folded_gradients(
            grad_output.contiguous(), *ctx.saved_tensors
        )
        return *gradients, None


class ModelNew(nn.Module):
    """Gives every row mean 0 and variance 1, then scales and shifts each of its elements."""

    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
