"""Each kernel raises a flag on the device when it has run; the host copies the flag back on the
caller's stream, waits for it, and complains where it is down.

gallery: error_flag
emulated: passed
h100: passed
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(const torch::Tensor& input);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output);
"""

cuda_source = r"""
#include <torch/types.h>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace {

constexpr int kThreads = 256;

__global__ void relu_forward_kernel(const float* input, float* output, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) output[i] = input[i] <= 0.0f ? 0.0f : input[i];
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* output, float* grad_input, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
}

unsigned blocks(int64_t count) { return static_cast<unsigned>((count + kThreads - 1) / kThreads); }

__global__ void raise_flag_kernel(int* flag) { *flag = 1; }

void check_flag(const torch::Tensor& like) {
  auto flag = torch::zeros({1}, like.options().dtype(torch::kInt));
  const auto stream = c10::cuda::getCurrentCUDAStream();
  raise_flag_kernel<<<1, 1, 0, stream>>>(flag.data_ptr<int>());
  int raised = 0;
  C10_CUDA_CHECK(cudaMemcpyAsync(
      &raised, flag.data_ptr<int>(), sizeof(int), cudaMemcpyDeviceToHost, stream));
  C10_CUDA_CHECK(cudaStreamSynchronize(stream));
  TORCH_CHECK(raised == 1, "the kernels did not run");
}

}  // namespace

torch::Tensor relu_forward(const torch::Tensor& input) {
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  relu_forward_kernel<<<blocks(x.numel()), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), x.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  check_flag(output);
  return output;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
  const c10::cuda::CUDAGuard guard(output.device());
  const auto dy = grad_output.contiguous();
  auto grad_input = torch::empty(output.sizes(), output.options());
  relu_backward_kernel<<<blocks(output.numel()), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), output.data_ptr<float>(), grad_input.data_ptr<float>(),
      output.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  check_flag(grad_input);
  return grad_input;
}
"""

relu_extension = load_inline(
    name="relu_flagged",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        output = relu_extension.relu_forward(x)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        return relu_extension.relu_backward(grad_output, output)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
