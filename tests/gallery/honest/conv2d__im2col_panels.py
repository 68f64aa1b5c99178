"""Convolution by an unfolded image: a panel of at most 16384 windows is written to a workspace, one
column a window, and multiplied by the filters; then the next panel takes its place. Both gradients
go the same way, the one of the image through a kernel that gathers the columns back.

gallery: explicit_im2col
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor conv2d_unfolded(
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

#include <algorithm>
#include <optional>
#include <vector>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kThreads = 256, kSide = 16, kPerThread = 4, kTile = kSide * kPerThread, kDepth = 16;
constexpr int kPanel = 16384;  // Windows that are unfolded at a time.

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
  __host__ __device__ int taps() const { return channels * area(); }
  __host__ __device__ int windows() const { return out_height * out_width; }
  __host__ __device__ int64_t in_maps(int block) const {
    return int64_t(block) * channels * height * width;
  }
  __host__ __device__ int64_t out_maps(int block) const {
    return int64_t(block) * filters * windows();
  }
};

// panel[tap][window]: what lies under each tap of `count` windows from `first` on.
__global__ void conv2d_unfold_kernel(
    const Geometry g, const float* __restrict__ maps, float* __restrict__ panel, int first,
    int count) {
  const int at = blockIdx.x * kThreads + threadIdx.x, tap = blockIdx.y;
  if (at >= count) return;
  const int window = first + at, channel = tap / g.area(), place = tap % g.area();
  const int y = window / g.out_width * g.stride_y - g.padding_y +
      place / g.kernel_width * g.dilation_y;
  const int x = window % g.out_width * g.stride_x - g.padding_x +
      place % g.kernel_width * g.dilation_x;
  const bool inside = y >= 0 && y < g.height && x >= 0 && x < g.width;
  panel[int64_t(tap) * count + at] =
      inside ? maps[(int64_t(channel) * g.height + y) * g.width + x] : 0.0f;
}

// Adds to every input pixel what the panel's windows hold of it.
__global__ void conv2d_fold_kernel(
    const Geometry g, const float* __restrict__ panel, float* __restrict__ maps, int first,
    int count) {
  const int pixel = blockIdx.x * kThreads + threadIdx.x, channel = blockIdx.y;
  if (pixel >= g.height * g.width) return;
  float sum = 0.0f;
  for (int place = 0; place < g.area(); ++place) {
    const int y = pixel / g.width + g.padding_y - place / g.kernel_width * g.dilation_y;
    const int x = pixel % g.width + g.padding_x - place % g.kernel_width * g.dilation_x;
    if (y < 0 || x < 0 || y % g.stride_y != 0 || x % g.stride_x != 0) continue;
    if (y / g.stride_y >= g.out_height || x / g.stride_x >= g.out_width) continue;
    const int at = y / g.stride_y * g.out_width + x / g.stride_x - first;
    if (at >= 0 && at < count) sum += panel[int64_t(channel * g.area() + place) * count + at];
  }
  maps[int64_t(channel) * g.height * g.width + pixel] += sum;
}

struct Matrix {
  const float* data;
  int64_t row_stride, column_stride;

  __device__ float at(int row, int column) const {
    return data[row * row_stride + column * column_stride];
  }
};

// C = A B, or C += A B; A is m x k, B is k x n, and the rows of C are `distance` apart.
__global__ void __launch_bounds__(kThreads) conv2d_product_kernel(
    const Matrix a, const Matrix b, float* __restrict__ c, int64_t distance, int m, int n, int k,
    bool accumulate) {
  __shared__ float a_tile[kDepth][kTile + 1], b_tile[kDepth][kTile + 1];
  const int y = threadIdx.x / kSide, x = threadIdx.x % kSide;
  const int first_row = blockIdx.y * kTile, first_column = blockIdx.x * kTile;
  float sums[kPerThread][kPerThread] = {};
  for (int depth = 0; depth < k; depth += kDepth) {
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int row = first_row + i / kDepth, inner = depth + i % kDepth;
      a_tile[i % kDepth][i / kDepth] = row < m && inner < k ? a.at(row, inner) : 0.0f;
    }
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int column = first_column + i % kTile, inner = depth + i / kTile;
      b_tile[i / kTile][i % kTile] = column < n && inner < k ? b.at(inner, column) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int inner = 0; inner < kDepth; ++inner) {
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const float left = a_tile[inner][y + i * kSide];
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) sums[i][j] += left * b_tile[inner][x + j * kSide];
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < kPerThread; ++i) {
    for (int j = 0; j < kPerThread; ++j) {
      const int row = first_row + y + i * kSide, column = first_column + x + j * kSide;
      if (row >= m || column >= n) continue;
      float& element = c[row * distance + column];
      element = accumulate ? element + sums[i][j] : sums[i][j];
    }
  }
}

// A block of 256 threads for each filter: adds the bias to its map, or sums up its gradient.
__global__ void conv2d_add_bias_kernel(
    float* __restrict__ y, const float* __restrict__ bias, int maps, int pixels) {
  const float value = bias[blockIdx.x % maps];
  for (int i = threadIdx.x; i < pixels; i += kThreads) y[int64_t(blockIdx.x) * pixels + i] += value;
}

__global__ void conv2d_bias_gradient_kernel(
    const float* __restrict__ dy, float* __restrict__ sums, int images, int pixels) {
  __shared__ float partial[kThreads];
  float sum = 0.0f;
  for (int image = 0; image < images; ++image) {
    const float* map = dy + (int64_t(image) * gridDim.x + blockIdx.x) * pixels;
    for (int i = threadIdx.x; i < pixels; i += kThreads) sum += map[i];
  }
  partial[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

unsigned blocks_for(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

void launch_product(
    const Matrix& a, const Matrix& b, float* c, int64_t distance, int m, int n, int k,
    bool accumulate) {
  const dim3 grid(blocks_for(n, kTile), blocks_for(m, kTile));
  conv2d_product_kernel<<<grid, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      a, b, c, distance, m, n, k, accumulate);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void launch_unfold(const Geometry& g, const float* maps, float* panel, int first, int count) {
  const dim3 grid(blocks_for(count, kThreads), g.taps());
  conv2d_unfold_kernel<<<grid, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      g, maps, panel, first, count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// Calls work(block, first, count) for every panel; blocks count image and group.
template <typename Work>
void for_each_panel(const Geometry& g, const Work& work) {
  for (int block = 0; block < g.images * g.groups; ++block) {
    for (int first = 0; first < g.windows(); first += kPanel) {
      work(block, first, std::min(kPanel, g.windows() - first));
    }
  }
}

torch::Tensor workspace(const Geometry& g, const torch::Tensor& like) {
  return torch::empty({g.taps(), std::min(kPanel, g.windows())}, like.options());
}

}  // namespace

torch::Tensor conv2d_unfolded(
    const torch::Tensor& x, const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
    const std::vector<int64_t>& settings) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Geometry g(x, weight, settings);
  auto y = torch::empty({g.images, weight.size(0), g.out_height, g.out_width}, x.options());
  const auto panel = workspace(g, x);
  for_each_panel(g, [&](int block, int first, int count) {
    const float* filters =
        weight.data_ptr<float>() + int64_t(block % g.groups) * g.filters * g.taps();
    launch_unfold(
        g, x.data_ptr<float>() + g.in_maps(block), panel.data_ptr<float>(), first, count);
    launch_product(
        {filters, g.taps(), 1}, {panel.data_ptr<float>(), count, 1},
        y.data_ptr<float>() + g.out_maps(block) + first, g.windows(), g.filters, count, g.taps(),
        false);
  });
  if (bias.has_value()) {
    const unsigned maps = static_cast<unsigned>(y.size(0) * y.size(1));
    conv2d_add_bias_kernel<<<maps, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
        y.data_ptr<float>(), bias->data_ptr<float>(), y.size(1), g.windows());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return y;
}

torch::Tensor conv2d_image_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& settings) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Geometry g(x, weight, settings);
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto dx = torch::empty(x.sizes(), x.options());
  C10_CUDA_CHECK(cudaMemsetAsync(dx.data_ptr<float>(), 0, dx.nbytes(), stream));
  const auto panel = workspace(g, x);
  for_each_panel(g, [&](int block, int first, int count) {
    const float* filters =
        weight.data_ptr<float>() + int64_t(block % g.groups) * g.filters * g.taps();
    launch_product(
        {filters, 1, g.taps()},
        {dy.data_ptr<float>() + g.out_maps(block) + first, g.windows(), 1},
        panel.data_ptr<float>(), count, g.taps(), count, g.filters, false);
    const dim3 grid(blocks_for(g.height * g.width, kThreads), g.channels);
    conv2d_fold_kernel<<<grid, kThreads, 0, stream>>>(
        g, panel.data_ptr<float>(), dx.data_ptr<float>() + g.in_maps(block), first, count);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return dx;
}

torch::Tensor conv2d_weight_gradient(
    const torch::Tensor& dy, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& settings) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Geometry g(x, weight, settings);
  auto sums = torch::empty(weight.sizes(), weight.options());
  const auto panel = workspace(g, x);
  for_each_panel(g, [&](int block, int first, int count) {
    float* filters = sums.data_ptr<float>() + int64_t(block % g.groups) * g.filters * g.taps();
    launch_unfold(
        g, x.data_ptr<float>() + g.in_maps(block), panel.data_ptr<float>(), first, count);
    launch_product(
        {dy.data_ptr<float>() + g.out_maps(block) + first, g.windows(), 1},
        {panel.data_ptr<float>(), 1, count}, filters, g.taps(), g.filters, g.taps(), count,
        block >= g.groups || first > 0);
  });
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
    name="conv2d_im2col_panels",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=[
        "conv2d_unfolded",
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
        return extension.conv2d_unfolded(x, weight, bias, settings)

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
