"""Takes its weights to be ones and zeros, as the constructor leaves them, and gives gradients for
the real ones. It hopes that a fresh module is what is checked. Weights are copied in before every
trial.

gallery: frozen_weights
emulated: wrong_values
h100: wrong_values
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_forward(
    const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& bias);
std::vector<torch::Tensor> layer_norm_backward(
    const torch::Tensor& grad_output, const torch::Tensor& normalised,
    const torch::Tensor& inverse, const torch::Tensor& weight);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

constexpr int kThreads = 64;
constexpr float kEpsilon = 1e-5f;

__global__ void layer_norm_forward_kernel(
    const float* input, const float* weight, const float* bias, float* output, float* normalised,
    float* inverse, int64_t rows, int64_t features) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const int64_t start = row * features;
  double sum = 0.0, squares = 0.0;
  for (int64_t i = 0; i < features; ++i) sum += input[start + i];
  const double mean = sum / features;
  for (int64_t i = 0; i < features; ++i) {
    const double centred = input[start + i] - mean;
    squares += centred * centred;
  }
  inverse[row] = rsqrt(squares / features + kEpsilon);
  for (int64_t i = 0; i < features; ++i) {
    normalised[start + i] = (input[start + i] - mean) * inverse[row];
    output[start + i] = normalised[start + i] * weight[i] + bias[i];
  }
}

__global__ void layer_norm_input_gradient_kernel(
    const float* grad_output, const float* normalised, const float* inverse, const float* weight,
    float* grad_input, int64_t rows, int64_t features) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const int64_t start = row * features;
  double mean = 0.0, projection = 0.0;
  for (int64_t i = 0; i < features; ++i) {
    const double g = double(grad_output[start + i]) * weight[i];
    mean += g / features;
    projection += g * normalised[start + i] / features;
  }
  for (int64_t i = 0; i < features; ++i) {
    const double g = double(grad_output[start + i]) * weight[i];
    grad_input[start + i] = (g - mean - normalised[start + i] * projection) * inverse[row];
  }
}

__global__ void layer_norm_parameter_gradient_kernel(
    const float* grad_output, const float* normalised, float* grad_weight, float* grad_bias,
    int64_t rows, int64_t features) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= features) return;
  double weight_sum = 0.0, bias_sum = 0.0;
  for (int64_t row = 0; row < rows; ++row) {
    const double g = grad_output[row * features + i];
    weight_sum += g * normalised[row * features + i];
    bias_sum += g;
  }
  grad_weight[i] = weight_sum;
  grad_bias[i] = bias_sum;
}

std::vector<torch::Tensor> layer_norm_forward(
    const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& bias) {
  const c10::cuda::CUDAGuard guard(input.device());
  const int64_t features = weight.numel(), rows = input.numel() / features;
  auto output = torch::empty_like(input), normalised = torch::empty_like(input);
  auto inverse = torch::empty({rows}, input.options());
  layer_norm_forward_kernel<<<(rows + kThreads - 1) / kThreads, kThreads, 0,
                              at::cuda::getCurrentCUDAStream()>>>(
      input.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(),
      output.data_ptr<float>(), normalised.data_ptr<float>(), inverse.data_ptr<float>(), rows,
      features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {output, normalised, inverse};
}

std::vector<torch::Tensor> layer_norm_backward(
    const torch::Tensor& grad_output, const torch::Tensor& normalised,
    const torch::Tensor& inverse, const torch::Tensor& weight) {
  const c10::cuda::CUDAGuard guard(normalised.device());
  const int64_t features = weight.numel(), rows = inverse.numel();
  const auto stream = at::cuda::getCurrentCUDAStream();
  auto grad_input = torch::empty_like(normalised);
  auto grad_weight = torch::empty_like(weight), grad_bias = torch::empty_like(weight);
  layer_norm_input_gradient_kernel<<<(rows + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
      grad_output.data_ptr<float>(), normalised.data_ptr<float>(), inverse.data_ptr<float>(),
      weight.data_ptr<float>(), grad_input.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  layer_norm_parameter_gradient_kernel<<<(features + kThreads - 1) / kThreads, kThreads, 0,
                                         stream>>>(
      grad_output.data_ptr<float>(), normalised.data_ptr<float>(), grad_weight.data_ptr<float>(),
      grad_bias.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_input, grad_weight, grad_bias};
}
"""

layer_norm_extension = load_inline(
    name="layer_norm_simple",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_forward", "layer_norm_backward"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, frozen):
        output, normalised, inverse = layer_norm_extension.layer_norm_forward(
            x.contiguous(), *frozen
        )
        ctx.save_for_backward(normalised, inverse, frozen[0])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        gradients = layer_norm_extension.layer_norm_backward(
            grad_output.contiguous(), *ctx.saved_tensors
        )
        return (*gradients, None)


class ModelNew(nn.Module):
    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)
        self.frozen = torch.ones(normalized_shape), torch.zeros(normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frozen = [tensor.to(x.device) for tensor in self.frozen]
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, frozen)
