"""Layer normalisation by functions that return nothing: Python makes every output and hands it in.
The Function also gives the statistics out, marked as not differentiable.

gallery: outputs_by_reference
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
void normalise(at::Tensor x, at::Tensor weight, at::Tensor bias, double eps, at::Tensor y,
               at::Tensor mean, at::Tensor rstd);
void differentiate_input(at::Tensor grad, at::Tensor x, at::Tensor weight, at::Tensor mean,
                         at::Tensor rstd, at::Tensor grad_x);
void differentiate_parameters(at::Tensor grad, at::Tensor x, at::Tensor mean, at::Tensor rstd,
                              at::Tensor grad_weight, at::Tensor grad_bias);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

constexpr int kLanes = 32;
constexpr int kRowsPerBlock = 4;

__device__ float warp_sum(float value) {
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

// In these two kernels a warp takes a row.
__global__ void normalise_rows_kernel(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ y, float* __restrict__ mean, float* __restrict__ rstd, int64_t rows,
    int64_t features, float eps) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.y;
  if (row >= rows) return;
  const float* in = x + row * features;
  float sum = 0.0f, squares = 0.0f;
  for (int64_t i = threadIdx.x; i < features; i += kLanes) sum += in[i];
  const float centre = warp_sum(sum) / features;
  for (int64_t i = threadIdx.x; i < features; i += kLanes) {
    squares += (in[i] - centre) * (in[i] - centre);
  }
  const float scale = 1.0f / sqrtf(warp_sum(squares) / features + eps);
  for (int64_t i = threadIdx.x; i < features; i += kLanes) {
    y[row * features + i] = (in[i] - centre) * scale * weight[i] + bias[i];
  }
  if (threadIdx.x == 0) {
    mean[row] = centre;
    rstd[row] = scale;
  }
}

__global__ void input_gradient_rows_kernel(
    const float* __restrict__ grad, const float* __restrict__ x, const float* __restrict__ weight,
    const float* __restrict__ mean, const float* __restrict__ rstd, float* __restrict__ grad_x,
    int64_t rows, int64_t features) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.y;
  if (row >= rows) return;
  const float centre = mean[row], scale = rstd[row];
  float sum = 0.0f, product = 0.0f;
  for (int64_t i = threadIdx.x; i < features; i += kLanes) {
    const float h = grad[row * features + i] * weight[i];
    sum += h;
    product += h * (x[row * features + i] - centre) * scale;
  }
  sum = warp_sum(sum) / features;
  product = warp_sum(product) / features;
  for (int64_t i = threadIdx.x; i < features; i += kLanes) {
    const float normal = (x[row * features + i] - centre) * scale;
    const float h = grad[row * features + i] * weight[i];
    grad_x[row * features + i] = scale * (h - sum - normal * product);
  }
}

__global__ void parameter_gradients_kernel(
    const float* __restrict__ grad, const float* __restrict__ x, const float* __restrict__ mean,
    const float* __restrict__ rstd, float* __restrict__ grad_weight, float* __restrict__ grad_bias,
    int64_t rows, int64_t features) {
  __shared__ float scales[16][kLanes], shifts[16][kLanes];
  const int64_t feature = int64_t(blockIdx.x) * kLanes + threadIdx.x;
  float scale = 0.0f, shift = 0.0f;
  for (int64_t row = threadIdx.y; row < rows && feature < features; row += 16) {
    const float g = grad[row * features + feature];
    scale += g * (x[row * features + feature] - mean[row]) * rstd[row];
    shift += g;
  }
  scales[threadIdx.y][threadIdx.x] = scale;
  shifts[threadIdx.y][threadIdx.x] = shift;
  __syncthreads();
  if (threadIdx.y > 0 || feature >= features) return;
  for (int lane = 1; lane < 16; ++lane) {
    scale += scales[lane][threadIdx.x];
    shift += shifts[lane][threadIdx.x];
  }
  grad_weight[feature] = scale;
  grad_bias[feature] = shift;
}

}  // namespace

void normalise(at::Tensor x, at::Tensor weight, at::Tensor bias, double eps, at::Tensor y,
               at::Tensor mean, at::Tensor rstd) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = mean.numel(), blocks = (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  const dim3 threads(kLanes, kRowsPerBlock);
  normalise_rows_kernel<<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(),
      mean.data_ptr<float>(), rstd.data_ptr<float>(), rows, weight.numel(),
      static_cast<float>(eps));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void differentiate_input(at::Tensor grad, at::Tensor x, at::Tensor weight, at::Tensor mean,
                         at::Tensor rstd, at::Tensor grad_x) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = mean.numel(), blocks = (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  const dim3 threads(kLanes, kRowsPerBlock);
  input_gradient_rows_kernel<<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
      grad.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(),
      mean.data_ptr<float>(), rstd.data_ptr<float>(), grad_x.data_ptr<float>(), rows,
      weight.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void differentiate_parameters(at::Tensor grad, at::Tensor x, at::Tensor mean, at::Tensor rstd,
                              at::Tensor grad_weight, at::Tensor grad_bias) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t features = grad_weight.numel(), blocks = (features + kLanes - 1) / kLanes;
  parameter_gradients_kernel<<<blocks, dim3(kLanes, 16), 0, at::cuda::getCurrentCUDAStream()>>>(
      grad.data_ptr<float>(), x.data_ptr<float>(), mean.data_ptr<float>(), rstd.data_ptr<float>(),
      grad_weight.data_ptr<float>(), grad_bias.data_ptr<float>(), mean.numel(), features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}
"""

extension = load_inline(
    name="layer_norm_given_outputs",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["normalise", "differentiate_input", "differentiate_parameters"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x = x.contiguous()
        y = torch.empty_like(x)
        mean = x.new_empty(x.numel() // weight.numel())
        rstd = torch.empty_like(mean)
        extension.normalise(x, weight, bias, eps, y, mean, rstd)
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y, mean, rstd

    @staticmethod
    def backward(ctx, grad_y, grad_mean, grad_rstd):
        x, weight, mean, rstd = ctx.saved_tensors
        if grad_y is None:
            return None, None, None, None
        grad_y = grad_y.contiguous()
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            extension.differentiate_input(grad_y, x, weight, mean, rstd, grad_x)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(weight)
            extension.differentiate_parameters(grad_y, x, mean, rstd, grad_weight, grad_bias)
        return grad_x, grad_weight, grad_bias, None


class ModelNew(nn.Module):
    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _, _ = LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
        return y
