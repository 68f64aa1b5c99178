"""An honest candidate, and short ways to make variants of it."""

from __future__ import annotations

from harness.records import Finding, Severity
from harness.screening import Screening, Signature, screen, signature_of

HONEST = '''\
import math

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor square_forward(torch::Tensor x);
torch::Tensor square_backward(torch::Tensor grad, torch::Tensor x);
"""

cuda_source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

// A comment with try, pass, stream, print and __global__ void kernel(int).
__global__ void square_forward_kernel(const float* x, float* y, int64_t n) {
    int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * x[i];
}

__global__ void square_backward_kernel(const float* g, const float* x, float* y, int64_t n) {
    int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i < n) y[i] = 2.0f * g[i] * x[i];
}

torch::Tensor square_forward(torch::Tensor x) {
    auto y = torch::empty_like(x);
    const int threads = 256;
    const int64_t blocks = (x.numel() + threads - 1) / threads;
    square_forward_kernel<<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), y.data_ptr<float>(), x.numel());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

torch::Tensor square_backward(torch::Tensor grad, torch::Tensor x) {
    auto y = torch::empty_like(x);
    const int threads = 256;
    const int64_t blocks = (x.numel() + threads - 1) / threads;
    square_backward_kernel<<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
        grad.data_ptr<float>(), x.data_ptr<float>(), y.data_ptr<float>(), x.numel());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}
"""

square_extension = load_inline(
    name="square",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["square_forward", "square_backward"],
)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        ctx.save_for_backward(x)
        return square_extension.square_forward(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return square_extension.square_backward(grad_output.contiguous(), x)


class ModelNew(nn.Module):
    def __init__(self, size, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.full((size,), math.sqrt(scale)))

    def forward(self, x):
        return Square.apply(x)
'''

REFERENCE = """\
import torch
class Model(torch.nn.Module):
    def __init__(self, size, scale=1.0):
        super().__init__()
    def forward(self, x):
        return x * x
"""


def signature() -> Signature:
    """The signature of the honest candidate's reference."""
    return signature_of(REFERENCE)


def changed(*pairs: tuple[str, str], base: str = HONEST) -> str:
    """The honest candidate with parts replaced; every part must occur."""
    for old, new in pairs:
        assert old in base, old
        base = base.replace(old, new)
    return base


def with_line(line: str) -> str:
    """The honest candidate with code added at its end."""
    return f"{HONEST}\n\n{line}\n"


def screened(code: str, *, native: bool = False) -> Screening:
    """Screens against the honest candidate's reference."""
    return screen(code, signature(), native=native)


def errors(code: str, *, native: bool = False) -> list[Finding]:
    """The errors of a candidate."""
    return [f for f in screened(code, native=native).findings if f.severity is Severity.ERROR]


def found(code: str, rule: str, *, native: bool = False) -> list[Finding]:
    """The findings of one rule."""
    return [f for f in screened(code, native=native).findings if f.rule == rule]


def line_of(code: str, part: str) -> int:
    """The line, from 1, of the first occurrence of a part."""
    assert part in code
    return code[: code.index(part)].count("\n") + 1


def place(finding: Finding) -> int:
    """The line of a finding."""
    assert finding.place is not None
    return finding.place.line
