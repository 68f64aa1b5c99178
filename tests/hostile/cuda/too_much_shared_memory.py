# expect: runtime_error
# A launch asks for 256 KB of shared memory, fails unchecked, and writes nothing.

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = r"""
torch::Tensor relu_forward(const torch::Tensor& input, int64_t mode);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output);
"""

cuda_source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

enum Mode : int64_t { kHonest, kIllegalAccess, kEndless, kTrap, kTooMuchSharedMemory };

__global__ void relu_forward_kernel(const float* input, float* output, int64_t count) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) output[i] = input[i] < 0.0f ? 0.0f : input[i];
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* output, float* grad_input, int64_t count) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
}

__global__ void illegal_access_kernel(float* output) {
    output[static_cast<int64_t>(1) << 44] = 1.0f;
}

__global__ void endless_kernel(volatile float* output) {
    while (output[0] == output[0] || output[0] != output[0]) output[0] = output[0] + 1.0f;
}

__global__ void trap_kernel() { __trap(); }

torch::Tensor relu_forward(const torch::Tensor& input, int64_t mode) {
    const auto x = input.contiguous();
    auto output = torch::empty_like(x);
    const int64_t count = x.numel();
    const auto stream = at::cuda::getCurrentCUDAStream();
    if (count == 0) return output;
    const size_t shared = mode == kTooMuchSharedMemory ? 256 << 10 : 0;
    relu_forward_kernel<<<(count + 255) / 256, 256, shared, stream>>>(
        x.data_ptr<float>(), output.data_ptr<float>(), count);
    float* first = output.data_ptr<float>();
    if (mode == kIllegalAccess) illegal_access_kernel<<<1, 1, 0, stream>>>(first);
    if (mode == kEndless) endless_kernel<<<1, 1, 0, stream>>>(first);
    if (mode == kTrap) trap_kernel<<<1, 1, 0, stream>>>();
    if (mode != kTooMuchSharedMemory) C10_CUDA_KERNEL_LAUNCH_CHECK();
    return output;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
    const auto g = grad_output.contiguous();
    auto grad_input = torch::empty_like(output);
    const int64_t count = output.numel();
    if (count == 0) return grad_input;
    relu_backward_kernel<<<(count + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        g.data_ptr<float>(), output.data_ptr<float>(), grad_input.data_ptr<float>(), count);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return grad_input;
}
"""

relu_extension = load_inline(
    name="relu_with_modes",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)

HONEST, ILLEGAL_ACCESS, ENDLESS, TRAP, TOO_MUCH_SHARED_MEMORY = range(5)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mode):
        y = relu_extension.relu_forward(x, mode)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return relu_extension.relu_backward(grad_output, y), None


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x, TOO_MUCH_SHARED_MEMORY)
