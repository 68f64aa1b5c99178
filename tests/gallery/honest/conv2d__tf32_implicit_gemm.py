"""Implicit matrix products on tensor cores in plain TF32, which this problem allows: image,
gradient and weights are read in place and rounded to TF32 on their way to shared memory. Sums are
carried on in float32; those of the weights are shared out over slices of the pixels.

gallery: tf32_where_allowed
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor conv2d_implicit(
    const torch::Tensor& x, const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
    const std::vector<int64_t>& settings);
torch::Tensor conv2d_image_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& settings);
torch::Tensor conv2d_weight_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& settings);
torch::Tensor conv2d_bias_gradient(const torch::Tensor& dy);
"""

cuda_source = r"""
#include <torch/types.h>

#include <optional>
#include <vector>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <mma.h>

using namespace nvcuda;

namespace {

constexpr int kTile = 64, kDepth = 32, kThreads = 128, kSide = 16, kInner = 8;
constexpr int kLeftDistance = kDepth + 4, kRightDistance = kTile + 8;
constexpr int kSlice = 8192;  // Pixels that one block of the weight's gradient adds up.

// Channels and filters are those of one group; the settings are stride, padding, dilation, groups.
struct Geometry {
  int images, groups, channels, filters, height, width, kernel_height, kernel_width;
  int stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x, out_height, out_width;

  Geometry(const torch::Tensor& x, const torch::Tensor& weight, const std::vector<int64_t>& s)
      : images(x.size(0)), groups(s[6]), channels(weight.size(1)), filters(weight.size(0) / s[6]),
        height(x.size(2)), width(x.size(3)), kernel_height(weight.size(2)),
        kernel_width(weight.size(3)), stride_y(s[0]), stride_x(s[1]), padding_y(s[2]),
        padding_x(s[3]), dilation_y(s[4]), dilation_x(s[5]) {
    TORCH_CHECK(x.is_cuda() && x.is_contiguous() && weight.is_contiguous(), "expected dense data");
    out_height = (height + 2 * padding_y - dilation_y * (kernel_height - 1) - 1) / stride_y + 1;
    out_width = (width + 2 * padding_x - dilation_x * (kernel_width - 1) - 1) / stride_x + 1;
  }
  __host__ __device__ int area() const { return kernel_height * kernel_width; }
  __host__ __device__ int pixels() const { return height * width; }
  __host__ __device__ int out_pixels() const { return out_height * out_width; }

  // What lies in the maps of one image and group under a tap (channel, row, column) of a window.
  __device__ float under_tap(const float* maps, int tap, int window) const {
    const int channel = tap / area(), place = tap % area();
    const int y = window / out_width * stride_y - padding_y + place / kernel_width * dilation_y;
    const int x = window % out_width * stride_x - padding_x + place % kernel_width * dilation_x;
    if (y < 0 || y >= height || x < 0 || x >= width) return 0.0f;
    return maps[(int64_t(channel) * height + y) * width + x];
  }
  // The gradient that a pixel gets through a tap (filter, row, column).
  __device__ float through_tap(const float* maps, int tap, int pixel) const {
    const int filter = tap / area(), place = tap % area();
    const int y = pixel / width + padding_y - place / kernel_width * dilation_y;
    const int x = pixel % width + padding_x - place % kernel_width * dilation_x;
    if (y < 0 || x < 0 || y % stride_y != 0 || x % stride_x != 0) return 0.0f;
    if (y / stride_y >= out_height || x / stride_x >= out_width) return 0.0f;
    return maps[(int64_t(filter) * out_height + y / stride_y) * out_width + x / stride_x];
  }
};

// A product has rows, columns and a depth that is summed over, for each z of the grid.

struct Forward {
  Geometry g;
  const float *x, *weight, *bias;
  float* y;

  __host__ __device__ int rows() const { return g.filters; }
  __host__ __device__ int columns() const { return g.out_pixels(); }
  __device__ int begin(int z) const { return 0; }
  __device__ int end(int z) const { return g.channels * g.area(); }
  __device__ float left(int z, int row, int k) const {
    return weight[int64_t(z % g.groups * g.filters + row) * g.channels * g.area() + k];
  }
  __device__ float right(int z, int k, int column) const {
    return g.under_tap(x + int64_t(z) * g.channels * g.pixels(), k, column);
  }
  __device__ void store(int z, int row, int column, float sum) const {
    const float start = bias == nullptr ? 0.0f : bias[z % g.groups * g.filters + row];
    y[(int64_t(z) * g.filters + row) * g.out_pixels() + column] = start + sum;
  }
};

struct ImageGradient {
  Geometry g;
  const float *dy, *weight;
  float* dx;

  __host__ __device__ int rows() const { return g.channels; }
  __host__ __device__ int columns() const { return g.pixels(); }
  __device__ int begin(int z) const { return 0; }
  __device__ int end(int z) const { return g.filters * g.area(); }
  __device__ float left(int z, int row, int k) const {
    const int filter = z % g.groups * g.filters + k / g.area();
    return weight[(int64_t(filter) * g.channels + row) * g.area() + k % g.area()];
  }
  __device__ float right(int z, int k, int column) const {
    return g.through_tap(dy + int64_t(z) * g.filters * g.out_pixels(), k, column);
  }
  __device__ void store(int z, int row, int column, float sum) const {
    dx[(int64_t(z) * g.channels + row) * g.pixels() + column] = sum;
  }
};

// z counts image, slice of its pixels, and group.
struct WeightGradient {
  Geometry g;
  const float *dy, *x;
  float* partial;
  int slices;

  __host__ __device__ int rows() const { return g.filters; }
  __host__ __device__ int columns() const { return g.channels * g.area(); }
  __device__ int begin(int z) const { return z / g.groups % slices * kSlice; }
  __device__ int end(int z) const { return min(begin(z) + kSlice, g.out_pixels()); }
  __device__ int maps(int z) const { return z / g.groups / slices * g.groups + z % g.groups; }
  __device__ float left(int z, int row, int k) const {
    return dy[(int64_t(maps(z)) * g.filters + row) * g.out_pixels() + k];
  }
  __device__ float right(int z, int k, int column) const {
    return g.under_tap(x + int64_t(maps(z)) * g.channels * g.pixels(), column, k);
  }
  __device__ void store(int z, int row, int column, float sum) const {
    partial[(int64_t(z) * g.filters + row) * columns() + column] = sum;
  }
};

using LeftFragment = wmma::fragment<
    wmma::matrix_a, kSide, kSide, kInner, wmma::precision::tf32, wmma::row_major>;
using RightFragment = wmma::fragment<
    wmma::matrix_b, kSide, kSide, kInner, wmma::precision::tf32, wmma::row_major>;
using Sums = wmma::fragment<wmma::accumulator, kSide, kSide, kInner, float>;

template <typename Product>
__global__ void __launch_bounds__(kThreads) conv2d_tf32_product_kernel(const Product product) {
  __shared__ __align__(128) float left[kTile * kLeftDistance], right[kDepth * kRightDistance];
  __shared__ __align__(128) float result[kTile * kRightDistance];
  const int z = blockIdx.z, first_row = blockIdx.y * kTile, first_column = blockIdx.x * kTile;
  const int rows = product.rows(), columns = product.columns(), end = product.end(z);
  const int warp_row = threadIdx.x / 32 * kSide;

  Sums totals[kTile / kSide];
  for (auto& total : totals) wmma::fill_fragment(total, 0.0f);
  for (int depth = product.begin(z); depth < end; depth += kDepth) {
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int row = i / kDepth, k = i % kDepth;
      const bool inside = first_row + row < rows && depth + k < end;
      left[row * kLeftDistance + k] = wmma::__float_to_tf32(
          inside ? product.left(z, first_row + row, depth + k) : 0.0f);
    }
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int k = i / kTile, column = i % kTile;
      const bool inside = first_column + column < columns && depth + k < end;
      right[k * kRightDistance + column] = wmma::__float_to_tf32(
          inside ? product.right(z, depth + k, first_column + column) : 0.0f);
    }
    __syncthreads();
    for (int j = 0; j < kTile / kSide; ++j) {
      Sums partial;
      wmma::fill_fragment(partial, 0.0f);
      for (int k = 0; k < kDepth; k += kInner) {
        LeftFragment a;
        RightFragment b;
        wmma::load_matrix_sync(a, left + warp_row * kLeftDistance + k, kLeftDistance);
        wmma::load_matrix_sync(b, right + k * kRightDistance + j * kSide, kRightDistance);
        wmma::mma_sync(partial, a, b, partial);
      }
      for (int e = 0; e < partial.num_elements; ++e) totals[j].x[e] += partial.x[e];
    }
    __syncthreads();
  }
  for (int j = 0; j < kTile / kSide; ++j) {
    wmma::store_matrix_sync(
        result + warp_row * kRightDistance + j * kSide, totals[j], kRightDistance,
        wmma::mem_row_major);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
    const int row = first_row + i / kTile, column = first_column + i % kTile;
    if (row < rows && column < columns) {
      product.store(z, row, column, result[i / kTile * kRightDistance + i % kTile]);
    }
  }
}

// Adds up `count` arrays of `numel` elements.
__global__ void conv2d_sum_of_slices_kernel(
    const float* __restrict__ partial, float* __restrict__ sums, int count, int numel) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= numel) return;
  float sum = 0.0f;
  for (int slice = 0; slice < count; ++slice) sum += partial[int64_t(slice) * numel + i];
  sums[i] = sum;
}

__global__ void conv2d_bias_gradient_kernel(
    const float* __restrict__ dy, float* __restrict__ sums, int images, int pixels) {
  __shared__ float warps[kThreads / 32];
  float sum = 0.0f;
  for (int image = 0; image < images; ++image) {
    const float* map = dy + (int64_t(image) * gridDim.x + blockIdx.x) * pixels;
    for (int i = threadIdx.x; i < pixels; i += kThreads) sum += map[i];
  }
  for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) sums[blockIdx.x] = (warps[0] + warps[1]) + (warps[2] + warps[3]);
}

template <typename Product>
void launch_product(const Product& product, int depth_of_grid) {
  const dim3 grid(
      (product.columns() + kTile - 1) / kTile, (product.rows() + kTile - 1) / kTile, depth_of_grid);
  conv2d_tf32_product_kernel<<<grid, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(product);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

torch::Tensor conv2d_implicit(
    const torch::Tensor& x, const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
    const std::vector<int64_t>& settings) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Geometry g(x, weight, settings);
  auto y = torch::empty({g.images, weight.size(0), g.out_height, g.out_width}, x.options());
  const float* biases = bias.has_value() ? bias->data_ptr<float>() : nullptr;
  launch_product(
      Forward{g, x.data_ptr<float>(), weight.data_ptr<float>(), biases, y.data_ptr<float>()},
      g.images * g.groups);
  return y;
}

torch::Tensor conv2d_image_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& settings) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Geometry g(x, weight, settings);
  auto dx = torch::empty(x.sizes(), x.options());
  launch_product(
      ImageGradient{g, dy.data_ptr<float>(), weight.data_ptr<float>(), dx.data_ptr<float>()},
      g.images * g.groups);
  return dx;
}

torch::Tensor conv2d_weight_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& settings) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Geometry g(x, weight, settings);
  const int slices = (g.out_pixels() + kSlice - 1) / kSlice, numel = weight.numel();
  auto partial = torch::empty({g.images * slices, numel}, x.options());
  auto sums = torch::empty(weight.sizes(), weight.options());
  launch_product(
      WeightGradient{
          g, dy.data_ptr<float>(), x.data_ptr<float>(), partial.data_ptr<float>(), slices},
      g.images * slices * g.groups);
  conv2d_sum_of_slices_kernel<<<
      (numel + kThreads - 1) / kThreads, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      partial.data_ptr<float>(), sums.data_ptr<float>(), g.images * slices, numel);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return sums;
}

torch::Tensor conv2d_bias_gradient(const torch::Tensor& dy) {
  const c10::cuda::CUDAGuard guard(dy.device());
  auto sums = torch::empty({dy.size(1)}, dy.options());
  conv2d_bias_gradient_kernel<<<dy.size(1), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), sums.data_ptr<float>(), dy.size(0), dy.size(2) * dy.size(3));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return sums;
}
"""

extension = load_inline(
    name="conv2d_tf32_implicit",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=[
        "conv2d_implicit",
        "conv2d_image_gradient",
        "conv2d_weight_gradient",
        "conv2d_bias_gradient",
    ],
)


class Conv2dFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, settings):
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        return extension.conv2d_implicit(x, weight, bias, settings)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensors
        dy = grad_output.contiguous()
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = extension.conv2d_image_gradient(dy, x, weight, ctx.settings)
        if ctx.needs_input_grad[1]:
            grad_weight = extension.conv2d_weight_gradient(dy, x, weight, ctx.settings)
        if ctx.needs_input_grad[2]:
            grad_bias = extension.conv2d_bias_gradient(dy)
        return grad_x, grad_weight, grad_bias, None


class ModelNew(nn.Module):
    """Convolves an image with a bank of filters."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple,
        stride: tuple = (1, 1),
        padding: tuple = (0, 0),
        dilation: tuple = (1, 1),
        groups: int = 1,
        bias: bool = False,
    ):
        super().__init__()
        self.conv2d = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.conv2d
        settings = [*conv.stride, *conv.padding, *conv.dilation, conv.groups]
        return Conv2dFunction.apply(x, conv.weight, conv.bias, settings)
