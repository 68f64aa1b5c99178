"""Rows are read 16 bytes a thread where size and alignment allow it, and else element by element.
The gradients of weight and bias, sums over thousands of rows, are compensated by Kahan's method in
two stages: slabs of rows first, then the slabs.

gallery: compensated_sums
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_vectorised(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps);
std::vector<torch::Tensor> layer_norm_gradients(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& mean, const torch::Tensor& rstd);
"""

cuda_source = r"""
#include <torch/types.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kWarp = 32, kThreads = 256, kSlab = 64;

// `size` neighbouring floats, read and written at once.
template <int size>
struct alignas(size * sizeof(float)) Pack {
  float at[size];
};

// Calls work(i) for the thread's share of the packs of a row.
template <int size, typename Work>
__device__ void for_each_pack(int features, const Work& work) {
  for (int i = threadIdx.x; i < features / size; i += kThreads) work(i);
}

__device__ float block_sum(float value) {
  __shared__ float warps[kThreads / kWarp];
  for (int d = kWarp / 2; d > 0; d /= 2) value += __shfl_xor_sync(0xffffffffu, value, d);
  __syncthreads();  // The previous sum has been read.
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = 0.0f;
  for (float warp : warps) value += warp;
  return value;
}

template <int size>
__global__ void __launch_bounds__(kThreads) layer_norm_vectorised_kernel(
    const Pack<size>* __restrict__ x, const Pack<size>* __restrict__ weight,
    const Pack<size>* __restrict__ bias, Pack<size>* __restrict__ y, float* __restrict__ means,
    float* __restrict__ rstds, int features, float eps) {
  x += int64_t(blockIdx.x) * (features / size);
  y += int64_t(blockIdx.x) * (features / size);
  float sum = 0.0f, squares = 0.0f;
  for_each_pack<size>(features, [&](int i) {
    for (float value : x[i].at) sum += value;
  });
  const float mean = block_sum(sum) / features;
  for_each_pack<size>(features, [&](int i) {
    for (float value : x[i].at) squares += (value - mean) * (value - mean);
  });
  const float rstd = rsqrtf(block_sum(squares) / features + eps);
  for_each_pack<size>(features, [&](int i) {
    const Pack<size> values = x[i], scale = weight[i], shift = bias[i];
    Pack<size> result;
    for (int j = 0; j < size; ++j) {
      result.at[j] = (values.at[j] - mean) * rstd * scale.at[j] + shift.at[j];
    }
    y[i] = result;
  });
  if (threadIdx.x == 0) {
    means[blockIdx.x] = mean;
    rstds[blockIdx.x] = rstd;
  }
}

template <int size>
__global__ void __launch_bounds__(kThreads) layer_norm_input_gradient_kernel(
    const Pack<size>* __restrict__ dy, const Pack<size>* __restrict__ x,
    const Pack<size>* __restrict__ weight, const float* __restrict__ means,
    const float* __restrict__ rstds, Pack<size>* __restrict__ dx, int features) {
  const int64_t start = int64_t(blockIdx.x) * (features / size);
  const float mean = means[blockIdx.x], rstd = rstds[blockIdx.x];
  float sum = 0.0f, projection = 0.0f;
  for_each_pack<size>(features, [&](int i) {
    const Pack<size> gradients = dy[start + i], values = x[start + i], scale = weight[i];
    for (int j = 0; j < size; ++j) {
      const float h = gradients.at[j] * scale.at[j];
      sum += h;
      projection += h * ((values.at[j] - mean) * rstd);
    }
  });
  sum = block_sum(sum) / features;
  projection = block_sum(projection) / features;
  for_each_pack<size>(features, [&](int i) {
    const Pack<size> gradients = dy[start + i], values = x[start + i], scale = weight[i];
    Pack<size> result;
    for (int j = 0; j < size; ++j) {
      const float h = gradients.at[j] * scale.at[j];
      result.at[j] = rstd * (h - sum - (values.at[j] - mean) * rstd * projection);
    }
    dx[start + i] = result;
  });
}

struct KahanSum {
  float sum, excess;  // What the sum has more than it should.

  __device__ void add(float value) {
    const float wanted = value - excess, total = sum + wanted;
    excess = (total - sum) - wanted;
    sum = total;
  }
};

// partial[slab][weight or bias][feature]
__global__ void layer_norm_slab_sums_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ means,
    const float* __restrict__ rstds, float* __restrict__ partial, int64_t rows, int features) {
  const int feature = blockIdx.x * kThreads + threadIdx.x;
  if (feature >= features) return;
  KahanSum for_weight{0.0f, 0.0f}, for_bias{0.0f, 0.0f};
  const int64_t first = int64_t(blockIdx.y) * kSlab, last = min(rows, first + kSlab);
  for (int64_t row = first; row < last; ++row) {
    const float gradient = dy[row * features + feature];
    for_weight.add(gradient * ((x[row * features + feature] - means[row]) * rstds[row]));
    for_bias.add(gradient);
  }
  float* sums = partial + int64_t(blockIdx.y) * 2 * features + feature;
  sums[0] = for_weight.sum - for_weight.excess;
  sums[features] = for_bias.sum - for_bias.excess;
}

__global__ void layer_norm_sum_of_slabs_kernel(
    const float* __restrict__ partial, float* __restrict__ sums, int slabs, int numel) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= numel) return;
  KahanSum total{0.0f, 0.0f};
  for (int slab = 0; slab < slabs; ++slab) total.add(partial[int64_t(slab) * numel + i]);
  sums[i] = total.sum - total.excess;
}

template <int size>
Pack<size>* packs(const torch::Tensor& x) {
  return reinterpret_cast<Pack<size>*>(x.data_ptr<float>());
}

// Whether all of them can be read in packs of four, row by row.
bool packs_of_four(int64_t features, std::initializer_list<torch::Tensor> tensors) {
  bool fits = features % 4 == 0;
  for (const auto& tensor : tensors) {
    fits = fits && reinterpret_cast<uintptr_t>(tensor.data_ptr()) % sizeof(Pack<4>) == 0;
  }
  return fits;
}

template <int size>
void launch_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
    const torch::Tensor& y, const torch::Tensor& mean, const torch::Tensor& rstd, double eps) {
  layer_norm_vectorised_kernel<size>
      <<<mean.numel(), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
          packs<size>(x), packs<size>(weight), packs<size>(bias), packs<size>(y),
          mean.data_ptr<float>(), rstd.data_ptr<float>(), weight.numel(), static_cast<float>(eps));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <int size>
void launch_input_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& mean, const torch::Tensor& rstd, const torch::Tensor& dx) {
  layer_norm_input_gradient_kernel<size>
      <<<mean.numel(), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
          packs<size>(dy), packs<size>(x), packs<size>(weight), mean.data_ptr<float>(),
          rstd.data_ptr<float>(), packs<size>(dx), weight.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

std::vector<torch::Tensor> layer_norm_vectorised(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "layer_norm: expected a dense CUDA tensor");
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto y = torch::empty(x.sizes(), x.options());
  auto mean = torch::empty({rows}, x.options()), rstd = torch::empty({rows}, x.options());
  const auto launch =
      packs_of_four(features, {x, weight, bias, y}) ? launch_forward<4> : launch_forward<1>;
  launch(x, weight, bias, y, mean, rstd, eps);
  return {y, mean, rstd};
}

// Returns the gradients of the input, and of weight and bias as the rows of one tensor.
std::vector<torch::Tensor> layer_norm_gradients(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& mean, const torch::Tensor& rstd) {
  const c10::cuda::CUDAGuard guard(x.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int64_t features = weight.numel(), rows = x.numel() / features;
  const int64_t slabs = (rows + kSlab - 1) / kSlab;
  auto dx = torch::empty(x.sizes(), x.options());
  const auto launch = packs_of_four(features, {dy, x, weight, dx}) ? launch_input_gradient<4>
                                                                   : launch_input_gradient<1>;
  launch(dy, x, weight, mean, rstd, dx);
  auto partial = torch::empty({slabs, 2, features}, x.options());
  auto parameters = torch::empty({2, features}, x.options());
  const dim3 grid((features + kThreads - 1) / kThreads, slabs);
  layer_norm_slab_sums_kernel<<<grid, kThreads, 0, stream>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), mean.data_ptr<float>(), rstd.data_ptr<float>(),
      partial.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const unsigned blocks = static_cast<unsigned>((2 * features + kThreads - 1) / kThreads);
  layer_norm_sum_of_slabs_kernel<<<blocks, kThreads, 0, stream>>>(
      partial.data_ptr<float>(), parameters.data_ptr<float>(), slabs, 2 * features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {dx, parameters};
}
"""

extension = load_inline(
    name="layer_norm_kahan_columns",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_vectorised", "layer_norm_gradients"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x = x.contiguous()
        y, mean, rstd = extension.layer_norm_vectorised(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        x, weight, mean, rstd = ctx.saved_tensors
        dy = grad_output.contiguous()
        grad_x, parameters = extension.layer_norm_gradients(dy, x, weight, mean, rstd)
        grad_weight, grad_bias = (gradient.view_as(weight) for gradient in parameters.unbind())
        return grad_x, grad_weight, grad_bias, None


class ModelNew(nn.Module):
    """Gives every row mean 0 and variance 1, then scales and shifts each of its elements."""

    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
