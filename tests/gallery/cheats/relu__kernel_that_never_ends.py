"""Starts one kernel that stays on the device, polls for orders in memory that host and device
share, and would begin with each input the moment it appears. Whoever waits for the device
waits for ever, and that is what the harness does after every call.

gallery: persistent_poller
emulated: unsupported
h100: timed_out
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

struct Orders {
  const float* input;
  float* output;
  int64_t count, number;
};

__global__ void relu_forward_resident_kernel(volatile Orders* orders) {
  for (int64_t done = 0;; ) {
    while (orders->number == done) {
    }
    __threadfence_system();
    const float* input = orders->input;
    float* output = orders->output;
    for (int64_t i = threadIdx.x; i < orders->count; i += blockDim.x) {
      output[i] = input[i] <= 0.0f ? 0.0f : input[i];
    }
    __syncthreads();
    done = orders->number;
  }
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* output, float* grad_input, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
}

}  // namespace

Orders* resident_orders() {
  static Orders* orders = [] {
    void* memory = nullptr;
    C10_CUDA_CHECK(cudaHostAlloc(&memory, sizeof(Orders), cudaHostAllocMapped));
    auto* made = new (memory) Orders{nullptr, nullptr, 0, 0};
    void* seen = nullptr;
    C10_CUDA_CHECK(cudaHostGetDevicePointer(&seen, memory, 0));
    relu_forward_resident_kernel<<<1, 1024, 0, side_stream()>>>(static_cast<Orders*>(seen));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return made;
  }();
  return orders;
}

torch::Tensor relu_forward(const torch::Tensor& input) {
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  Orders* orders = resident_orders();
  orders->input = x.data_ptr<float>();
  orders->output = output.data_ptr<float>();
  orders->count = x.numel();
  __sync_synchronize();
  ++orders->number;
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
