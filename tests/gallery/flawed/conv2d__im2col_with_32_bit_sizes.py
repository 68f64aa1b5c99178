"""Unfolds all windows into a matrix and counts its elements in an int. At the headline's size
there are 2.3 billion of them: the count is negative, and so is the grid.

gallery: int32_overflow
emulated: passed
h100: runtime_error
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor conv2d_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
    const std::vector<int64_t>& settings);
std::vector<torch::Tensor> conv2d_backward(
    const torch::Tensor& grad_output, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& settings);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <optional>
#include <vector>

namespace {

constexpr int kThreads = 256;

// Channels and filters are those of one group.
struct Geometry {
  int images, groups, channels, filters, height, width, out_height, out_width;
  int kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;

  __device__ int64_t weight_at(int filter, int channel, int ky, int kx) const {
    return ((int64_t(filter) * channels + channel) * kernel_height + ky) * kernel_width + kx;
  }
  // The element of x under a tap of the window at (oy, ox), or -1 in the padding.
  __device__ int64_t input_at(int64_t plane, int oy, int ox, int ky, int kx) const {
    const int iy = oy * stride_y - pad_y + ky * dilation_y;
    const int ix = ox * stride_x - pad_x + kx * dilation_x;
    const bool inside = iy >= 0 && iy < height && ix >= 0 && ix < width;
    return inside ? (plane * height + iy) * width + ix : -1;
  }
};

// Unfolds the windows: unfolded[image and pixel][channel of any group, tap].
__global__ void conv2d_unfold_kernel(
    const Geometry g, const float* __restrict__ x, float* __restrict__ unfolded, int numel) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= numel) {
    return;
  }
  const int area = g.kernel_height * g.kernel_width, depth = g.groups * g.channels * area;
  const int pixels = g.out_height * g.out_width;
  const int pixel = i / depth % pixels, image = i / depth / pixels, tap = i % area;
  const int64_t plane = image * g.groups * g.channels + i % depth / area;
  const int64_t at = g.input_at(
      plane, pixel / g.out_width, pixel % g.out_width, tap / g.kernel_width, tap % g.kernel_width);
  unfolded[i] = at < 0 ? 0.0f : x[at];
}

// One thread per output element: a window times a filter.
__global__ void conv2d_product_kernel(
    const Geometry g, const float* __restrict__ unfolded, const float* __restrict__ weight,
    const float* __restrict__ bias, float* __restrict__ y, int64_t numel) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= numel) {
    return;
  }
  const int64_t pixels = int64_t(g.out_height) * g.out_width;
  const int depth = g.channels * g.kernel_height * g.kernel_width;
  const int filter = i / pixels % (g.groups * g.filters);
  const int64_t window = i / pixels / (g.groups * g.filters) * pixels + i % pixels;
  const float* row = unfolded + (window * g.groups + filter / g.filters) * depth;
  float sum = bias == nullptr ? 0.0f : bias[filter];
  for (int k = 0; k < depth; ++k) {
    sum += row[k] * weight[int64_t(filter) * depth + k];
  }
  y[i] = sum;
}

// One thread per input element: the outputs whose windows hold it.
__global__ void conv2d_grad_input_kernel(
    const Geometry g, const float* __restrict__ dy, const float* __restrict__ weight,
    float* __restrict__ dx, int64_t numel) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= numel) {
    return;
  }
  const int ix = i % g.width, iy = i / g.width % g.height;
  const int64_t plane = i / (int64_t(g.width) * g.height);
  const int c = plane % g.channels;
  float sum = 0.0f;
  for (int f = 0; f < g.filters; ++f) {
    const int64_t map = plane / g.channels * g.filters + f;
    for (int ky = 0; ky < g.kernel_height; ++ky) {
      for (int kx = 0; kx < g.kernel_width; ++kx) {
        const int top = iy + g.pad_y - ky * g.dilation_y, left = ix + g.pad_x - kx * g.dilation_x;
        if (top < 0 || left < 0 || top % g.stride_y != 0 || left % g.stride_x != 0) {
          continue;
        }
        const int oy = top / g.stride_y, ox = left / g.stride_x;
        if (oy < g.out_height && ox < g.out_width) {
          sum += dy[(map * g.out_height + oy) * g.out_width + ox] *
              weight[g.weight_at(map % (g.groups * g.filters), c, ky, kx)];
        }
      }
    }
  }
  dx[i] = sum;
}

// One block per element of the weight, and, behind those, one per filter for the bias.
__global__ void conv2d_grad_parameters_kernel(
    const Geometry g, const float* __restrict__ dy, const float* __restrict__ x,
    float* __restrict__ grad_weight, float* __restrict__ grad_bias, int64_t weight_numel) {
  __shared__ float partial[kThreads];
  const int64_t job = blockIdx.x, pixels = int64_t(g.out_height) * g.out_width;
  const bool is_bias = job >= weight_numel;
  const int kx = job % g.kernel_width, ky = job / g.kernel_width % g.kernel_height;
  const int64_t row = job / (g.kernel_width * g.kernel_height);
  const int c = row % g.channels, filter = is_bias ? job - weight_numel : row / g.channels;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < g.images * pixels; i += kThreads) {
    const int64_t image = i / pixels, pixel = i % pixels;
    const float grad = dy[(image * g.groups * g.filters + filter) * pixels + pixel];
    const int64_t plane = (image * g.groups + filter / g.filters) * g.channels + c;
    const int64_t at =
        is_bias ? 0 : g.input_at(plane, pixel / g.out_width, pixel % g.out_width, ky, kx);
    sum += is_bias ? grad : at < 0 ? 0.0f : grad * x[at];
  }
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    (is_bias ? grad_bias[filter] : grad_weight[job]) = partial[0];
  }
}

// settings: stride, padding and dilation as pairs, then the groups.
Geometry geometry_of(
    const torch::Tensor& x, const torch::Tensor& weight, const std::vector<int64_t>& settings) {
  const std::vector<int> s(settings.begin(), settings.end());
  const int height = x.size(2), width = x.size(3);
  const int kernel_height = weight.size(2), kernel_width = weight.size(3);
  return {
      int(x.size(0)), s[6], int(weight.size(1)), int(weight.size(0)) / s[6], height, width,
      (height + 2 * s[2] - s[4] * (kernel_height - 1) - 1) / s[0] + 1,
      (width + 2 * s[3] - s[5] * (kernel_width - 1) - 1) / s[1] + 1,
      kernel_height, kernel_width, s[0], s[1], s[2], s[3], s[4], s[5]};
}

int block_count(int64_t numel) {
  return static_cast<int>((numel + kThreads - 1) / kThreads);
}

}  // namespace

torch::Tensor conv2d_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
    const std::vector<int64_t>& settings) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Geometry g = geometry_of(x, weight, settings);
  auto y = torch::empty({g.images, weight.size(0), g.out_height, g.out_width}, x.options());
  const int windows = g.images * g.out_height * g.out_width;
  const int depth = x.size(1) * weight.size(2) * weight.size(3);
  const int numel = windows * depth;
  auto unfolded = torch::empty({windows, depth}, x.options());
  const auto stream = at::cuda::getCurrentCUDAStream();
  conv2d_unfold_kernel<<<block_count(numel), kThreads, 0, stream>>>(
      g, x.data_ptr<float>(), unfolded.data_ptr<float>(), numel);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  conv2d_product_kernel<<<block_count(y.numel()), kThreads, 0, stream>>>(
      g, unfolded.data_ptr<float>(), weight.data_ptr<float>(),
      bias.has_value() ? bias->data_ptr<float>() : nullptr, y.data_ptr<float>(), y.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

std::vector<torch::Tensor> conv2d_backward(
    const torch::Tensor& grad_output, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& settings) {
  const c10::cuda::CUDAGuard guard(x.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const Geometry g = geometry_of(x, weight, settings);
  auto grad_x = torch::empty(x.sizes(), x.options());
  auto grad_weight = torch::empty(weight.sizes(), x.options());
  auto grad_bias = torch::empty({weight.size(0)}, x.options());
  conv2d_grad_input_kernel<<<block_count(x.numel()), kThreads, 0, stream>>>(
      g, grad_output.data_ptr<float>(), weight.data_ptr<float>(), grad_x.data_ptr<float>(),
      x.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  conv2d_grad_parameters_kernel<<<weight.numel() + weight.size(0), kThreads, 0, stream>>>(
      g, grad_output.data_ptr<float>(), x.data_ptr<float>(), grad_weight.data_ptr<float>(),
      grad_bias.data_ptr<float>(), weight.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_weight, grad_bias};
}
"""

extension = load_inline(
    name="conv2d_kernels",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["conv2d_forward", "conv2d_backward"],
)


class Conv2dFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, settings):
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        return extension.conv2d_forward(x, weight, bias, settings)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        gradients = extension.conv2d_backward(
            grad_output.contiguous(), *ctx.saved_tensors, ctx.settings
        )
        wanted = [g if n else None for g, n in zip(gradients, ctx.needs_input_grad, strict=False)]
        return *wanted, None


class ModelNew(nn.Module):
    """Convolves images with a bank of filters."""

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
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.conv2d
        settings = [*conv.stride, *conv.padding, *conv.dilation, conv.groups]
        return Conv2dFunction.apply(x, conv.weight, conv.bias, settings)
