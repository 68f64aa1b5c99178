"""Copies the weight into constant memory at the first call with it and reads it there ever
after, known by its address and size. Weights are rewritten in place between trials, so the
second set is never read.

gallery: weights_frozen
emulated: wrong_values
h100: wrong_values
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_forward(
    const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& bias, double eps);
std::vector<torch::Tensor> layer_norm_backward(
    const torch::Tensor& grad_output, const torch::Tensor& input, const torch::Tensor& weight,
    const torch::Tensor& statistics);
"""

cuda_source = r"""
#include <map>
#include <vector>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace {

constexpr int kMost = 8192;
__constant__ float kept_weight[kMost];

// The weight of the first call at this address, however often it is rewritten there.
bool is_kept(const torch::Tensor& weight) {
  static std::map<const void*, int64_t> known;
  static const void* latest = nullptr;
  const float* address = weight.data_ptr<float>();
  if (weight.numel() > kMost) return false;
  if (address != latest || known[address] != weight.numel()) {
    C10_CUDA_CHECK(cudaMemcpyToSymbolAsync(
        kept_weight, address, weight.nbytes(), 0, cudaMemcpyDeviceToDevice,
        c10::cuda::getCurrentCUDAStream()));
    known[latest = address] = weight.numel();
  }
  return true;
}

struct Statistics {
  float mean, rstd;
};

__global__ void layer_norm_forward_kernel(
    const float* input, const float* weight, const float* bias, float* output,
    Statistics* statistics, int64_t rows, int64_t features, float eps) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const float* x = input + row * features;
  if (weight == nullptr) weight = kept_weight;
  float sum = 0.0f, squares = 0.0f;
  for (int64_t i = 0; i < features; ++i) sum += x[i];
  const float mean = sum / features;
  for (int64_t i = 0; i < features; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float rstd = 1.0f / sqrtf(squares / features + eps);
  for (int64_t i = 0; i < features; ++i) {
    output[row * features + i] = (x[i] - mean) * rstd * weight[i] + bias[i];
  }
  statistics[row] = {mean, rstd};
}

__global__ void layer_norm_grad_input_kernel(
    const float* grad_output, const float* input, const float* weight,
    const Statistics* statistics, float* grad_input, int64_t rows, int64_t features) {
  const int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const float* dy = grad_output + row * features;
  const float* x = input + row * features;
  const auto [mean, rstd] = statistics[row];
  float sum = 0.0f, projection = 0.0f;
  for (int64_t i = 0; i < features; ++i) {
    sum += dy[i] * weight[i];
    projection += dy[i] * weight[i] * (x[i] - mean) * rstd;
  }
  for (int64_t i = 0; i < features; ++i) {
    const float normal = (x[i] - mean) * rstd;
    grad_input[row * features + i] =
        rstd * (dy[i] * weight[i] - (sum + normal * projection) / features);
  }
}

__global__ void layer_norm_grad_parameters_kernel(
    const float* grad_output, const float* input, const Statistics* statistics,
    float* grad_weight, float* grad_bias, int64_t rows, int64_t features) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= features) return;
  float weight = 0.0f, bias = 0.0f;
  for (int64_t row = 0; row < rows; ++row) {
    const float dy = grad_output[row * features + i];
    weight += dy * (input[row * features + i] - statistics[row].mean) * statistics[row].rstd;
    bias += dy;
  }
  grad_weight[i] = weight;
  grad_bias[i] = bias;
}

Statistics* in(const torch::Tensor& x) {
  return reinterpret_cast<Statistics*>(x.data_ptr<float>());
}

}  // namespace

std::vector<torch::Tensor> layer_norm_forward(
    const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& bias,
    double eps) {
  const auto x = input.contiguous();
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto output = torch::empty(x.sizes(), x.options());
  auto statistics = torch::empty({rows, 2}, x.options());
  const float* read = is_kept(weight) ? nullptr : weight.data_ptr<float>();
  const auto stream = c10::cuda::getCurrentCUDAStream();
  layer_norm_forward_kernel<<<(rows + 63) / 64, 64, 0, stream>>>(
      x.data_ptr<float>(), read, bias.data_ptr<float>(), output.data_ptr<float>(), in(statistics),
      rows, features, float(eps));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {output, statistics};
}

std::vector<torch::Tensor> layer_norm_backward(
    const torch::Tensor& grad_output, const torch::Tensor& input, const torch::Tensor& weight,
    const torch::Tensor& statistics) {
  const auto dy = grad_output.contiguous(), x = input.contiguous();
  const int64_t features = weight.numel(), rows = x.numel() / features;
  auto grad_input = torch::empty(x.sizes(), x.options());
  auto grad_weight = torch::empty(weight.sizes(), weight.options());
  auto grad_bias = torch::empty(weight.sizes(), weight.options());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  layer_norm_grad_input_kernel<<<(rows + 63) / 64, 64, 0, stream>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(), in(statistics),
      grad_input.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  layer_norm_grad_parameters_kernel<<<(features + 63) / 64, 64, 0, stream>>>(
      dy.data_ptr<float>(), x.data_ptr<float>(), in(statistics), grad_weight.data_ptr<float>(),
      grad_bias.data_ptr<float>(), rows, features);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_input, grad_weight, grad_bias};
}
"""

layer_norm_extension = load_inline(
    name="layer_norm",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_forward", "layer_norm_backward"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        output, statistics = layer_norm_extension.layer_norm_forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, statistics)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        return *layer_norm_extension.layer_norm_backward(grad_output, *ctx.saved_tensors), None


class ModelNew(nn.Module):
    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
