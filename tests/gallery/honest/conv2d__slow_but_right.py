"""A convolution in the plainest way: one thread for each output, and for each gradient, that walks
over all its terms in global memory. Right, at a small part of the speed.

gallery: slow_but_right
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor conv2d_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
    const std::vector<int64_t>& geometry);
std::vector<torch::Tensor> conv2d_backward(
    const torch::Tensor& grad, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& geometry);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <optional>
#include <vector>

namespace {

constexpr int kThreads = 128;

// `channels` and `filters` are those of one group.
struct Shape {
  int images, groups, channels, filters, height, width, out_height, out_width, taps_y, taps_x;
  int stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;

  __device__ int64_t input_at(int image, int group, int channel, int y, int x) const {
    return ((int64_t(image) * groups + group) * channels + channel) * height * width +
           int64_t(y) * width + x;
  }
  __device__ int64_t output_at(int image, int group, int filter, int y, int x) const {
    return ((int64_t(image) * groups + group) * filters + filter) * out_height * out_width +
           int64_t(y) * out_width + x;
  }
  __device__ int64_t weight_at(int group, int filter, int channel, int ky, int kx) const {
    return ((int64_t(group) * filters + filter) * channels + channel) * taps_y * taps_x +
           ky * taps_x + kx;
  }
};

__device__ int take(int64_t& index, int size) {
  const int digit = static_cast<int>(index % size);
  index /= size;
  return digit;
}

__global__ void one_output_kernel(
    Shape s, const float* x, const float* weight, const float* bias, float* out, int64_t count) {
  int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = i;
  const int ox = take(i, s.out_width), oy = take(i, s.out_height);
  const int filter = take(i, s.filters), group = take(i, s.groups), image = take(i, s.images);
  float sum = 0.0f;
  for (int channel = 0; channel < s.channels; ++channel) {
    for (int ky = 0; ky < s.taps_y; ++ky) {
      const int iy = oy * s.stride_y - s.padding_y + ky * s.dilation_y;
      if (iy < 0 || iy >= s.height) continue;
      for (int kx = 0; kx < s.taps_x; ++kx) {
        const int ix = ox * s.stride_x - s.padding_x + kx * s.dilation_x;
        if (ix < 0 || ix >= s.width) continue;
        sum += x[s.input_at(image, group, channel, iy, ix)] *
               weight[s.weight_at(group, filter, channel, ky, kx)];
      }
    }
  }
  out[at] = bias ? sum + bias[group * s.filters + filter] : sum;
}

__global__ void one_input_gradient_kernel(
    Shape s, const float* grad, const float* weight, float* grad_x, int64_t count) {
  int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = i;
  const int ix = take(i, s.width), iy = take(i, s.height);
  const int channel = take(i, s.channels), group = take(i, s.groups), image = take(i, s.images);
  float sum = 0.0f;
  for (int filter = 0; filter < s.filters; ++filter) {
    for (int ky = 0; ky < s.taps_y; ++ky) {
      const int y = iy + s.padding_y - ky * s.dilation_y, oy = y / s.stride_y;
      if (y < 0 || y % s.stride_y != 0 || oy >= s.out_height) continue;
      for (int kx = 0; kx < s.taps_x; ++kx) {
        const int x = ix + s.padding_x - kx * s.dilation_x, ox = x / s.stride_x;
        if (x < 0 || x % s.stride_x != 0 || ox >= s.out_width) continue;
        sum += grad[s.output_at(image, group, filter, oy, ox)] *
               weight[s.weight_at(group, filter, channel, ky, kx)];
      }
    }
  }
  grad_x[at] = sum;
}

__global__ void one_weight_gradient_kernel(
    Shape s, const float* grad, const float* x, float* grad_weight, int64_t count) {
  int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = i;
  const int kx = take(i, s.taps_x), ky = take(i, s.taps_y);
  const int channel = take(i, s.channels), filter = take(i, s.filters), group = take(i, s.groups);
  float sum = 0.0f;
  for (int image = 0; image < s.images; ++image) {
    for (int oy = 0; oy < s.out_height; ++oy) {
      const int iy = oy * s.stride_y - s.padding_y + ky * s.dilation_y;
      if (iy < 0 || iy >= s.height) continue;
      float row_sum = 0.0f;
      for (int ox = 0; ox < s.out_width; ++ox) {
        const int ix = ox * s.stride_x - s.padding_x + kx * s.dilation_x;
        if (ix < 0 || ix >= s.width) continue;
        row_sum += grad[s.output_at(image, group, filter, oy, ox)] *
                   x[s.input_at(image, group, channel, iy, ix)];
      }
      sum += row_sum;
    }
  }
  grad_weight[at] = sum;
}

__global__ void one_bias_gradient_kernel(Shape s, const float* grad, float* grad_bias, int count) {
  const int filter = blockIdx.x * kThreads + threadIdx.x;
  if (filter >= count) return;
  const int64_t pixels = int64_t(s.out_height) * s.out_width;
  float sum = 0.0f;
  for (int image = 0; image < s.images; ++image) {
    const float* map = grad + (int64_t(image) * count + filter) * pixels;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) sum += map[pixel];
  }
  grad_bias[filter] = sum;
}

Shape shape_of(
    const torch::Tensor& x, const torch::Tensor& weight, const std::vector<int64_t>& geometry) {
  const auto size = [](int64_t given) { return static_cast<int>(given); };
  Shape s{};
  s.stride_y = size(geometry[0]), s.stride_x = size(geometry[1]);
  s.padding_y = size(geometry[2]), s.padding_x = size(geometry[3]);
  s.dilation_y = size(geometry[4]), s.dilation_x = size(geometry[5]);
  s.groups = size(geometry[6]), s.images = size(x.size(0)), s.channels = size(weight.size(1));
  s.filters = size(weight.size(0)) / s.groups;
  s.height = size(x.size(2)), s.width = size(x.size(3));
  s.taps_y = size(weight.size(2)), s.taps_x = size(weight.size(3));
  s.out_height = (s.height + 2 * s.padding_y - s.dilation_y * (s.taps_y - 1) - 1) / s.stride_y + 1;
  s.out_width = (s.width + 2 * s.padding_x - s.dilation_x * (s.taps_x - 1) - 1) / s.stride_x + 1;
  return s;
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

torch::Tensor conv2d_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
    const std::vector<int64_t>& geometry) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Shape s = shape_of(x, weight, geometry);
  auto out = torch::empty({s.images, weight.size(0), s.out_height, s.out_width}, x.options());
  one_output_kernel<<<
      blocks_for(out.numel()), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      s, x.data_ptr<float>(), weight.data_ptr<float>(),
      bias.has_value() ? bias->data_ptr<float>() : nullptr, out.data_ptr<float>(), out.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

std::vector<torch::Tensor> conv2d_backward(
    const torch::Tensor& grad, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& geometry) {
  const c10::cuda::CUDAGuard guard(x.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const Shape s = shape_of(x, weight, geometry);
  auto grad_x = torch::empty_like(x), grad_weight = torch::empty_like(weight);
  auto grad_bias = torch::empty({weight.size(0)}, weight.options());
  one_input_gradient_kernel<<<blocks_for(x.numel()), kThreads, 0, stream>>>(
      s, grad.data_ptr<float>(), weight.data_ptr<float>(), grad_x.data_ptr<float>(), x.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  one_weight_gradient_kernel<<<blocks_for(weight.numel()), kThreads, 0, stream>>>(
      s, grad.data_ptr<float>(), x.data_ptr<float>(), grad_weight.data_ptr<float>(),
      weight.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  one_bias_gradient_kernel<<<blocks_for(weight.size(0)), kThreads, 0, stream>>>(
      s, grad.data_ptr<float>(), grad_bias.data_ptr<float>(), static_cast<int>(weight.size(0)));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_x, grad_weight, grad_bias};
}
"""

extension = load_inline(
    name="conv2d_slow_but_right",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["conv2d_forward", "conv2d_backward"],
)


class Conv2dFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, geometry):
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return extension.conv2d_forward(x, weight, bias, geometry)

    @staticmethod
    def backward(ctx, grad_output):
        grad_output = grad_output.contiguous()
        grads = extension.conv2d_backward(grad_output, *ctx.saved_tensors, ctx.geometry)
        grad_bias = grads[2] if ctx.needs_input_grad[2] else None
        return grads[0], grads[1], grad_bias, None


class ModelNew(nn.Module):
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
        geometry = [*conv.stride, *conv.padding, *conv.dilation, conv.groups]
        return Conv2dFunction.apply(x, conv.weight, conv.bias, geometry)
