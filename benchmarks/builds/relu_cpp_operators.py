"""ReLU on the CPU, in C++ that asks torch for operators."""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = r"""
torch::Tensor relu_forward(torch::Tensor x) { return torch::where(x > 0, x, torch::zeros_like(x)); }

torch::Tensor relu_backward(torch::Tensor g, torch::Tensor y) {
  auto result = torch::empty(y.sizes(), y.options());
  auto from = g.contiguous();
  AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "relu_backward", [&] {
    auto* to = result.data_ptr<scalar_t>();
    const auto* grad = from.data_ptr<scalar_t>();
    const auto* out = y.data_ptr<scalar_t>();
    at::parallel_for(0, y.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = out[i] > 0 ? grad[i] : scalar_t(0);
    });
  });
  return result;
}
"""

extension = load_inline(
    name="relu_cpp_operators",
    cpp_sources=cpp_source,
    functions=["relu_forward", "relu_backward"],
    extra_cflags=["-O2"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = extension.relu_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return extension.relu_backward(grad_output, y)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
