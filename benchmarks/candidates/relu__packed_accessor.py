import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(torch::Tensor x);
torch::Tensor relu_backward(torch::Tensor grad_output, torch::Tensor y);
"""

cuda_source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

using Vector = torch::PackedTensorAccessor32<float, 1, torch::RestrictPtrTraits>;

__global__ void relu_forward_kernel(const Vector x, Vector y) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < x.size(0)) {
        y[i] = x[i] < 0.0f ? 0.0f : x[i];
    }
}

__global__ void relu_backward_kernel(const Vector grad_output, const Vector y, Vector grad_input) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < y.size(0)) {
        grad_input[i] = y[i] <= 0.0f ? 0.0f : grad_output[i];
    }
}

static Vector flat(const torch::Tensor& t) {
    const auto vector = t.view({-1});
    return vector.packed_accessor32<float, 1, torch::RestrictPtrTraits>();
}

torch::Tensor relu_forward(torch::Tensor x) {
    TORCH_CHECK(x.is_cuda(), "x must be a CUDA tensor");
    const c10::cuda::CUDAGuard guard(x.device());
    auto y = torch::empty_like(x);
    const int64_t n = x.numel();
    if (n == 0) return y;
    auto stream = at::cuda::getCurrentCUDAStream();
    relu_forward_kernel<<<(n + 1023) / 1024, 1024, 0, stream>>>(flat(x), flat(y));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

torch::Tensor relu_backward(torch::Tensor grad_output, torch::Tensor y) {
    const c10::cuda::CUDAGuard guard(y.device());
    auto grad_input = torch::empty_like(y);
    const int64_t n = y.numel();
    if (n == 0) return grad_input;
    auto stream = at::cuda::getCurrentCUDAStream();
    relu_backward_kernel<<<(n + 1023) / 1024, 1024, 0, stream>>>(flat(grad_output), flat(y), flat(grad_input));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return grad_input;
}
"""

relu_packed_accessor_module = load_inline(
    name="relu_packed_accessor",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)


class ReLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = relu_packed_accessor_module.relu_forward(x.contiguous())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return relu_packed_accessor_module.relu_backward(grad_output.contiguous(), y)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReLUFunction.apply(x)
