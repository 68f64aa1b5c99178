"""A convolution that reads its filters from constant memory. They are copied there on the current
stream in every call; filters that do not fit are read from global memory by the same kernels.

gallery: constant_memory
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor conv2d_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const std::vector<int64_t>& geometry);
torch::Tensor conv2d_grad_input(
    const torch::Tensor& grad, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& geometry);
torch::Tensor conv2d_grad_weight(
    const torch::Tensor& grad, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& geometry);
void conv2d_add_bias(const torch::Tensor& out, const torch::Tensor& bias);
torch::Tensor conv2d_grad_bias(const torch::Tensor& grad);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <vector>

namespace {

constexpr int kThreads = 128;
constexpr int64_t kMostConstants = 12288;  // 48 of 64 KiB

__constant__ float constant_filters[kMostConstants];

// Both sides of a convolution: an image of (plane, y, x) and an output of (map, y, x), where planes
// and maps count channels and filters of one group.
struct Shape {
  int groups, channels, filters, height, width, out_height, out_width, taps_y, taps_x;
  int stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;

  __device__ int image_pixels() const { return height * width; }
  __device__ int out_pixels() const { return out_height * out_width; }
  __device__ int taps() const { return taps_y * taps_x; }
};

// In these two kernels a thread takes a pixel; grid.y counts filters or channels of a group, and
// grid.z groups of images.
template <bool kConstant>
__global__ void conv2d_forward_kernel(
    Shape s, const float* __restrict__ x, const float* __restrict__ weight,
    float* __restrict__ out) {
  const float* filters = kConstant ? constant_filters : weight;
  const int pixel = blockIdx.x * kThreads + threadIdx.x;
  if (pixel >= s.out_pixels()) return;
  const int top = pixel / s.out_width * s.stride_y - s.padding_y;
  const int left = pixel % s.out_width * s.stride_x - s.padding_x;
  const int filter = blockIdx.z % s.groups * s.filters + blockIdx.y;
  const float* image = x + int64_t(blockIdx.z) * s.channels * s.image_pixels();
  const float* taps = filters + int64_t(filter) * s.channels * s.taps();
  float sum = 0.0f;
  for (int channel = 0; channel < s.channels; ++channel) {
    for (int tap = 0; tap < s.taps(); ++tap) {
      const int iy = top + tap / s.taps_x * s.dilation_y;
      const int ix = left + tap % s.taps_x * s.dilation_x;
      if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
      sum += image[channel * s.image_pixels() + iy * s.width + ix] * taps[channel * s.taps() + tap];
    }
  }
  out[(int64_t(blockIdx.z) * s.filters + blockIdx.y) * s.out_pixels() + pixel] = sum;
}

template <bool kConstant>
__global__ void conv2d_grad_input_kernel(
    Shape s, const float* __restrict__ grad, const float* __restrict__ weight,
    float* __restrict__ grad_x) {
  const float* filters = kConstant ? constant_filters : weight;
  const int pixel = blockIdx.x * kThreads + threadIdx.x, channel = blockIdx.y;
  if (pixel >= s.image_pixels()) return;
  const float* maps = grad + int64_t(blockIdx.z) * s.filters * s.out_pixels();
  float sum = 0.0f;
  for (int filter = 0; filter < s.filters; ++filter) {
    const int64_t number = blockIdx.z % s.groups * s.filters + filter;
    const float* taps = filters + (number * s.channels + channel) * s.taps();
    for (int tap = 0; tap < s.taps(); ++tap) {
      const int y = pixel / s.width + s.padding_y - tap / s.taps_x * s.dilation_y;
      const int x = pixel % s.width + s.padding_x - tap % s.taps_x * s.dilation_x;
      const int oy = y / s.stride_y, ox = x / s.stride_x;
      if (y < 0 || x < 0 || y % s.stride_y != 0 || x % s.stride_x != 0) continue;
      if (oy >= s.out_height || ox >= s.out_width) continue;
      sum += maps[filter * s.out_pixels() + oy * s.out_width + ox] * taps[tap];
    }
  }
  grad_x[(int64_t(blockIdx.z) * s.channels + channel) * s.image_pixels() + pixel] = sum;
}

__device__ float block_sum(float value) {
  __shared__ float partial[kThreads];
  partial[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  return partial[0];
}

// A block for each element of a filter; its threads share the output's pixels.
__global__ void conv2d_grad_weight_kernel(
    Shape s, const float* __restrict__ grad, const float* __restrict__ x,
    float* __restrict__ grad_weight, int images) {
  const int tap = blockIdx.x % s.taps(), channel = blockIdx.x / s.taps() % s.channels;
  const int filter = blockIdx.x / s.taps() / s.channels, group = filter / s.filters;
  const int top = tap / s.taps_x * s.dilation_y - s.padding_y;
  const int left = tap % s.taps_x * s.dilation_x - s.padding_x;
  float sum = 0.0f;
  for (int image = 0; image < images; ++image) {
    const float* map = grad + (int64_t(image) * s.groups * s.filters + filter) * s.out_pixels();
    const float* plane =
        x + ((int64_t(image) * s.groups + group) * s.channels + channel) * s.image_pixels();
    for (int pixel = threadIdx.x; pixel < s.out_pixels(); pixel += kThreads) {
      const int iy = pixel / s.out_width * s.stride_y + top;
      const int ix = pixel % s.out_width * s.stride_x + left;
      if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
      sum += map[pixel] * plane[iy * s.width + ix];
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) grad_weight[blockIdx.x] = sum;
}

__global__ void conv2d_add_bias_kernel(float* out, const float* bias, int filters, int pixels) {
  float* map = out + int64_t(blockIdx.x) * pixels;
  for (int i = threadIdx.x; i < pixels; i += kThreads) map[i] += bias[blockIdx.x % filters];
}

__global__ void conv2d_grad_bias_kernel(
    const float* grad, float* grad_bias, int images, int filters, int pixels) {
  float sum = 0.0f;
  for (int image = 0; image < images; ++image) {
    const float* map = grad + (int64_t(image) * filters + blockIdx.x) * pixels;
    for (int i = threadIdx.x; i < pixels; i += kThreads) sum += map[i];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) grad_bias[blockIdx.x] = sum;
}

Shape shape_of(
    const torch::Tensor& x, const torch::Tensor& weight, const std::vector<int64_t>& geometry) {
  const std::vector<int> g(geometry.begin(), geometry.end());
  Shape s{};
  s.stride_y = g[0], s.stride_x = g[1], s.padding_y = g[2], s.padding_x = g[3];
  s.dilation_y = g[4], s.dilation_x = g[5], s.groups = g[6];
  s.channels = weight.size(1), s.filters = weight.size(0) / s.groups;
  s.height = x.size(2), s.width = x.size(3), s.taps_y = weight.size(2), s.taps_x = weight.size(3);
  s.out_height = (s.height + 2 * s.padding_y - s.dilation_y * (s.taps_y - 1) - 1) / s.stride_y + 1;
  s.out_width = (s.width + 2 * s.padding_x - s.dilation_x * (s.taps_x - 1) - 1) / s.stride_x + 1;
  return s;
}

dim3 blocks_for(int pixels, int planes, int64_t images_and_groups) {
  return dim3((pixels + kThreads - 1) / kThreads, planes, images_and_groups);
}

// Copies the filters of this call to constant memory, behind what the stream still reads there.
bool fill_constants(const torch::Tensor& weight, cudaStream_t stream) {
  if (weight.numel() > kMostConstants) return false;
  C10_CUDA_CHECK(cudaMemcpyToSymbolAsync(
      constant_filters, weight.data_ptr<float>(), weight.numel() * sizeof(float), 0,
      cudaMemcpyDeviceToDevice, stream));
  return true;
}

}  // namespace

torch::Tensor conv2d_forward(
    const torch::Tensor& x, const torch::Tensor& weight, const std::vector<int64_t>& geometry) {
  const c10::cuda::CUDAGuard guard(x.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const Shape s = shape_of(x, weight, geometry);
  auto out = torch::empty({x.size(0), weight.size(0), s.out_height, s.out_width}, x.options());
  const dim3 blocks = blocks_for(s.out_height * s.out_width, s.filters, x.size(0) * s.groups);
  const auto kernel =
      fill_constants(weight, stream) ? conv2d_forward_kernel<true> : conv2d_forward_kernel<false>;
  kernel<<<blocks, kThreads, 0, stream>>>(
      s, x.data_ptr<float>(), weight.data_ptr<float>(), out.data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

torch::Tensor conv2d_grad_input(
    const torch::Tensor& grad, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& geometry) {
  const c10::cuda::CUDAGuard guard(x.device());
  const auto stream = at::cuda::getCurrentCUDAStream();
  const Shape s = shape_of(x, weight, geometry);
  auto grad_x = torch::empty_like(x);
  const dim3 blocks = blocks_for(s.height * s.width, s.channels, x.size(0) * s.groups);
  const auto kernel = fill_constants(weight, stream) ? conv2d_grad_input_kernel<true>
                                                     : conv2d_grad_input_kernel<false>;
  kernel<<<blocks, kThreads, 0, stream>>>(
      s, grad.data_ptr<float>(), weight.data_ptr<float>(), grad_x.data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_x;
}

torch::Tensor conv2d_grad_weight(
    const torch::Tensor& grad, const torch::Tensor& x, const torch::Tensor& weight,
    const std::vector<int64_t>& geometry) {
  const c10::cuda::CUDAGuard guard(x.device());
  auto grad_weight = torch::empty_like(weight);
  conv2d_grad_weight_kernel<<<
      weight.numel(), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      shape_of(x, weight, geometry), grad.data_ptr<float>(), x.data_ptr<float>(),
      grad_weight.data_ptr<float>(), static_cast<int>(x.size(0)));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_weight;
}

void conv2d_add_bias(const torch::Tensor& out, const torch::Tensor& bias) {
  const c10::cuda::CUDAGuard guard(out.device());
  const int filters = out.size(1), pixels = out.size(2) * out.size(3);
  conv2d_add_bias_kernel<<<
      out.size(0) * filters, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      out.data_ptr<float>(), bias.data_ptr<float>(), filters, pixels);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

torch::Tensor conv2d_grad_bias(const torch::Tensor& grad) {
  const c10::cuda::CUDAGuard guard(grad.device());
  const int images = grad.size(0), filters = grad.size(1), pixels = grad.size(2) * grad.size(3);
  auto grad_bias = torch::empty({filters}, grad.options());
  conv2d_grad_bias_kernel<<<filters, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
      grad.data_ptr<float>(), grad_bias.data_ptr<float>(), images, filters, pixels);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_bias;
}
"""

extension = load_inline(
    name="conv2d_constant_memory",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=[
        "conv2d_forward",
        "conv2d_grad_input",
        "conv2d_grad_weight",
        "conv2d_add_bias",
        "conv2d_grad_bias",
    ],
)


class Conv2dFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, geometry):
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        out = extension.conv2d_forward(x, weight, geometry)
        if bias is not None:
            extension.conv2d_add_bias(out, bias)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        saved = (grad_output.contiguous(), *ctx.saved_tensors, ctx.geometry)
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_x = extension.conv2d_grad_input(*saved) if wants_x else None
        grad_weight = extension.conv2d_grad_weight(*saved) if wants_weight else None
        grad_bias = extension.conv2d_grad_bias(saved[0]) if wants_bias else None
        return grad_x, grad_weight, grad_bias, None


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
