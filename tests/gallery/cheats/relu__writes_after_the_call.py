"""The kernel on the current stream writes all but the last element; one on another stream
waits for a millisecond and writes it then, after the call's end event. The copy of the
answer holds poison there; the emulated device does all work at once and cannot see it.

gallery: unjoined_stream
emulated: passed
h100: wrong_values
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(const torch::Tensor& input);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output);
"""

cuda_source = r"""
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace {

cudaStream_t side_stream() {
  static cudaStream_t stream = [] {
    cudaStream_t made;
    C10_CUDA_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return made;
  }();
  return stream;
}

// The side stream sees what the current one has been given so far; nobody waits for it.
void follow_current(cudaStream_t side) {
  static cudaEvent_t given = [] {
    cudaEvent_t made;
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    return made;
  }();
  C10_CUDA_CHECK(cudaEventRecord(given, c10::cuda::getCurrentCUDAStream()));
  C10_CUDA_CHECK(cudaStreamWaitEvent(side, given, 0));
}

__global__ void relu_forward_kernel(const float* input, float* output, int64_t begin, int64_t end) {
  const int64_t i = begin + int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < end) output[i] = input[i] <= 0.0f ? 0.0f : input[i];
}

__global__ void relu_forward_late_kernel(const float* input, float* output, int64_t at) {
  const int64_t end = clock64() + 2'000'000;
  while (clock64() < end) {
  }
  output[at] = input[at] <= 0.0f ? 0.0f : input[at];
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* output, float* grad_input, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
}

}  // namespace

torch::Tensor relu_forward(const torch::Tensor& input) {
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  const int64_t last = x.numel() - 1;
  follow_current(side_stream());
  relu_forward_kernel<<<last / 256 + 1, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), 0, last);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  relu_forward_late_kernel<<<1, 1, 0, side_stream()>>>(
      x.data_ptr<float>(), output.data_ptr<float>(), last);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
  const auto dy = grad_output.contiguous();
  auto grad_input = torch::empty(output.sizes(), output.options());
  const int64_t count = output.numel();
  relu_backward_kernel<<<(count + 255) / 256, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), output.data_ptr<float>(), grad_input.data_ptr<float>(), count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

relu_extension = load_inline(
    name="relu",
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
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        return relu_extension.relu_backward(grad_output, output)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
