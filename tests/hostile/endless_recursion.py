# expect: runtime_error
# Calls itself in Python until the interpreter gives up.

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

relu_source = r"""
#include <torch/extension.h>

torch::Tensor relu_forward(const torch::Tensor& input) {
    TORCH_CHECK(input.scalar_type() == torch::kFloat32, "relu_forward expects float32");
    const auto x = input.contiguous();
    auto y = torch::empty_like(x);
    const float* source = x.const_data_ptr<float>();
    float* target = y.mutable_data_ptr<float>();
    const int64_t count = x.numel();
    for (int64_t i = 0; i < count; ++i) {
        target[i] = source[i] < 0.0f ? 0.0f : source[i];
    }
    return y;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
    const auto g = grad_output.contiguous();
    auto grad_input = torch::empty_like(output);
    const float* gradient = g.const_data_ptr<float>();
    const float* result = output.const_data_ptr<float>();
    float* target = grad_input.mutable_data_ptr<float>();
    const int64_t count = output.numel();
    for (int64_t i = 0; i < count; ++i) {
        target[i] = result[i] <= 0.0f ? 0.0f : gradient[i];
    }
    return grad_input;
}
"""

relu_cpu = load_inline(
    name="relu_cpu",
    cpp_sources=relu_source,
    functions=["relu_forward", "relu_backward"],
    extra_cflags=["-O3"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = relu_cpu.relu_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return relu_cpu.relu_backward(grad_output, y)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward(x)
