"""Several blocks for each row, which add up their sums with atomicAdd in double, so that long rows
fill the device as many short ones do. The order of additions changes from run to run; the gradients
of the parameters, added up with float atomics, show it in their last bits.

gallery: atomics_jitter
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_by_chunks(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps);
std::vector<torch::Tensor> layer_norm_gradients_by_chunks(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& sums, double eps);
"""

cuda_source = r"""
#include <torch/types.h>

#include <algorithm>
#include <vector>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 128, kChunk = 1024;  // Elements of a row that a block takes.
constexpr int kSlab = 64;                     // Rows whose parameter gradients a thread adds up.

// A block takes one chunk of every gridDim.y-th row.
struct Chunk {
  int begin, end;

  __device__ explicit Chunk(int features)
      : begin(blockIdx.x * kChunk), end(min(features, begin + kChunk)) {}
};

// Adds the block's pair of sums to the row's.
__device__ void add_to_row(double2* row, double first, double second) {
  for (int d = 16; d > 0; d /= 2) {
    first += __shfl_down_sync(0xffffffffu, first, d);
    second += __shfl_down_sync(0xffffffffu, second, d);
  }
  if (threadIdx.x % 32 == 0) {
    atomicAdd(&row->x, first);
    atomicAdd(&row->y, second);
  }
}

// Mean and reciprocal deviation from the sums of a row's elements and of their squares.
__device__ float2 statistics(double2 sums, int features, double eps) {
  const double mean = sums.x / features;
  const double variance = fmax(sums.y / features - mean * mean, 0.0);
  return make_float2(static_cast<float>(mean), static_cast<float>(rsqrt(variance + eps)));
}

__global__ void layer_norm_row_sums_kernel(
    const float* __restrict__ x, double2* __restrict__ sums, int64_t rows, int features) {
  const Chunk chunk(features);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    double first = 0.0, second = 0.0;
    for (int i = chunk.begin + threadIdx.x; i < chunk.end; i += kThreads) {
      const double value = x[row * features + i];
      first += value;
      second += value * value;
    }
    add_to_row(sums + row, first, second);
  }
}

__global__ void layer_norm_scale_rows_kernel(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    const double2* __restrict__ sums, float* __restrict__ y, int64_t rows, int features,
    double eps) {
  const Chunk chunk(features);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const float2 of_row = statistics(sums[row], features, eps);
    for (int i = chunk.begin + threadIdx.x; i < chunk.end; i += kThreads) {
      const float normal = (x[row * features + i] - of_row.x) * of_row.y;
      y[row * features + i] = normal * weight[i] + bias[i];
    }
  }
}

// Sums of h = dy * weight and of h times the normalised input.
__global__ void layer_norm_gradient_sums_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ weight,
    const double2* __restrict__ sums, double2* __restrict__ gradient_sums, int64_t rows,
    int features, double eps) {
  const Chunk chunk(features);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const float2 of_row = statistics(sums[row], features, eps);
    double first = 0.0, second = 0.0;
    for (int i = chunk.begin + threadIdx.x; i < chunk.end; i += kThreads) {
      const float h = dy[row * features + i] * weight[i];
      first += h;
      second += h * ((x[row * features + i] - of_row.x) * of_row.y);
    }
    add_to_row(gradient_sums + row, first, second);
  }
}

__global__ void layer_norm_input_gradient_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ weight,
    const double2* __restrict__ sums, const double2* __restrict__ gradient_sums,
    float* __restrict__ dx, int64_t rows, int features, double eps) {
  const Chunk chunk(features);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const float2 of_row = statistics(sums[row], features, eps);
    const float mean_h = static_cast<float>(gradient_sums[row].x / features);
    const float projection = static_cast<float>(gradient_sums[row].y / features);
    for (int i = chunk.begin + threadIdx.x; i < chunk.end; i += kThreads) {
      const float normal = (x[row * features + i] - of_row.x) * of_row.y;
      dx[row * features + i] =
          of_row.y * (dy[row * features + i] * weight[i] - mean_h - normal * projection);
    }
  }
}

// A thread for each feature and slab of rows.
__global__ void layer_norm_parameter_gradients_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const double2* __restrict__ sums,
    float* __restrict__ gradients, int64_t rows, int features, double eps) {
  const int feature = blockIdx.x * kThreads + threadIdx.x;
  if (feature >= features) return;
  for (int64_t slab = blockIdx.y; slab * kSlab < rows; slab += gridDim.y) {
    float for_weight = 0.0f, for_bias = 0.0f;
    for (int64_t row = slab * kSlab; row < min(rows, (slab + 1) * kSlab); ++row) {
      const float2 of_row = statistics(sums[row], features, eps);
      const float gradient = dy[row * features + feature];
      for_weight += gradient * ((x[row * features + feature] - of_row.x) * of_row.y);
      for_bias += gradient;
    }
    atomicAdd(gradients + feature, for_weight);
    atomicAdd(gradients + features + feature, for_bias);
  }
}

dim3 grid_of(int64_t features, int64_t per_block, int64_t rows) {
  const int64_t most = 65535;
  return dim3((features + per_block - 1) / per_block, std::min(rows, most));
}

double2* pairs(const torch::Tensor& sums) {
  return reinterpret_cast<double2*>(sums.data_ptr<double>());
}

torch::Tensor cleared(at::IntArrayRef shape, const torch::TensorOptions& options) {
  auto sums = torch::empty(shape, options);
  const auto stream = at::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cudaMemsetAsync(sums.data_ptr(), 0, sums.nbytes(), stream));
  return sums;
}

}  // namespace

// Returns the output and the rows' sums of elements and squares.
std::vector<torch::Tensor> layer_norm_by_chunks(
    const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "layer_norm: expected a dense CUDA tensor");
  const c10::cuda::CUDAGuard guard(x.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto y = torch::empty(x.sizes(), x.options());
  auto sums = cleared({rows, 2}, x.options().dtype(torch::kDouble));
  const dim3 grid = grid_of(features, kChunk, rows);
  layer_norm_row_sums_kernel<<<grid, kThreads, 0, stream>>>(
      x.data_ptr<float>(), pairs(sums), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  layer_norm_scale_rows_kernel<<<grid, kThreads, 0, stream>>>(
      x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), pairs(sums),
      y.data_ptr<float>(), rows, features, eps);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {y, sums};
}

// Returns the gradients of the input, and of weight and bias as the rows of one tensor.
std::vector<torch::Tensor> layer_norm_gradients_by_chunks(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const torch::Tensor& sums, double eps) {
  const c10::cuda::CUDAGuard guard(x.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const int64_t features = weight.numel(), rows = x.numel() / features;
  const auto gradient_sums = cleared({rows, 2}, sums.options());
  const auto parameters = cleared({2, features}, x.options());
  auto dx = torch::empty(x.sizes(), x.options());
  const dim3 grid = grid_of(features, kChunk, rows);
  layer_norm_gradient_sums_kernel<<<grid, kThreads, 0, stream>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(), pairs(sums),
      pairs(gradient_sums), rows, features, eps);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  layer_norm_input_gradient_kernel<<<grid, kThreads, 0, stream>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(), pairs(sums),
      pairs(gradient_sums), dx.data_ptr<float>(), rows, features, eps);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const dim3 parameter_grid = grid_of(features, kThreads, (rows + kSlab - 1) / kSlab);
  layer_norm_parameter_gradients_kernel<<<parameter_grid, kThreads, 0, stream>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), pairs(sums), parameters.data_ptr<float>(), rows,
      features, eps);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {dx, parameters};
}
"""

extension = load_inline(
    name="layer_norm_by_chunks",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_by_chunks", "layer_norm_gradients_by_chunks"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x = x.contiguous()
        y, sums = extension.layer_norm_by_chunks(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, sums)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        x, weight, sums = ctx.saved_tensors
        grad_x, parameters = extension.layer_norm_gradients_by_chunks(
            grad_output.contiguous(), x, weight, sums, ctx.eps
        )
        grad_weight, grad_bias = (gradient.view_as(weight) for gradient in parameters.unbind())
        return grad_x, grad_weight, grad_bias, None


class ModelNew(nn.Module):
    """Gives every row mean 0 and variance 1, then scales and shifts each of its elements."""

    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
