import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = r"""
torch::Tensor scaled_add_forward(
    const torch::Tensor& a, const torch::Tensor& b, double alpha);
torch::Tensor scaled_add_backward(const torch::Tensor& grad_output, double alpha);
"""

cuda_source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

constexpr int kThreads = 256;

static int blocks_for(int64_t count) {
    return static_cast<int>(std::min<int64_t>((count + kThreads - 1) / kThreads, 65536));
}

__global__ void scaled_add_forward_kernel(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ sum,
    float alpha, int64_t count) {
    const int64_t stride = static_cast<int64_t>(blockDim.x) * gridDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += stride) {
        sum[i] = a[i] + alpha * b[i];
    }
}

__global__ void scaled_add_backward_kernel(
    const float* __restrict__ grad_output, float* __restrict__ grad_b, float alpha,
    int64_t count) {
    const int64_t stride = static_cast<int64_t>(blockDim.x) * gridDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += stride) {
        grad_b[i] = alpha * grad_output[i];
    }
}

torch::Tensor scaled_add_forward(
    const torch::Tensor& a, const torch::Tensor& b, double alpha) {
    TORCH_CHECK(a.is_cuda() && b.is_cuda(), "scaled_add_forward expects CUDA tensors");
    TORCH_CHECK(a.scalar_type() == torch::kFloat32 && b.scalar_type() == torch::kFloat32,
                "scaled_add_forward expects float32");
    TORCH_CHECK(a.sizes() == b.sizes(), "scaled_add_forward expects equal shapes");
    const c10::cuda::CUDAGuard guard(a.device());
    const auto a_dense = a.contiguous();
    const auto b_dense = b.contiguous();
    auto sum = torch::empty_like(a_dense);
    const int64_t count = sum.numel();
    if (count > 0) {
        scaled_add_forward_kernel<<<blocks_for(count), kThreads, 0,
                                    at::cuda::getCurrentCUDAStream()>>>(
            a_dense.data_ptr<float>(), b_dense.data_ptr<float>(), sum.data_ptr<float>(),
            static_cast<float>(alpha), count);
        C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    return sum;
}

torch::Tensor scaled_add_backward(const torch::Tensor& grad_output, double alpha) {
    const c10::cuda::CUDAGuard guard(grad_output.device());
    const auto gradient = grad_output.contiguous();
    auto grad_b = torch::empty_like(gradient);
    const int64_t count = gradient.numel();
    if (count > 0) {
        scaled_add_backward_kernel<<<blocks_for(count), kThreads, 0,
                                     at::cuda::getCurrentCUDAStream()>>>(
            gradient.data_ptr<float>(), grad_b.data_ptr<float>(), static_cast<float>(alpha),
            count);
        C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    return grad_b;
}
"""

scaled_add_extension = load_inline(
    name="scaled_add_extension",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["scaled_add_forward", "scaled_add_backward"],
)


class ScaledAddFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, alpha):
        ctx.alpha = alpha
        return scaled_add_extension.scaled_add_forward(a, b, alpha)

    @staticmethod
    def backward(ctx, grad_output):
        # The sum passes its gradient on to `a` unchanged; only `b` needs a kernel.
        grad_b = None
        if ctx.needs_input_grad[1]:
            grad_b = scaled_add_extension.scaled_add_backward(grad_output, ctx.alpha)
        return grad_output, grad_b, None


class ModelNew(nn.Module):
    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ScaledAddFunction.apply(a, b, self.alpha)
