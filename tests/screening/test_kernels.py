"""Kernels: present, launched, not empty, named, checked, on the current stream."""

# ruff: noqa: E501  (candidates are written as one-line strings)

from __future__ import annotations

import re

import pytest

from harness.records import Severity

from .candidates import HONEST, changed, errors, found, line_of, place, screened

NO_KERNELS = re.sub(r"__global__ void .*?\n}\n", "", HONEST, flags=re.DOTALL)
NO_LAUNCHES = re.sub(r" +square_\w+_kernel<<<.*?;\n", "", HONEST, flags=re.DOTALL)
NOTHING = re.sub(r" +square_\w+_kernel<<<.*?;\n", "", NO_KERNELS, flags=re.DOTALL)
PLAIN = """\
import torch
import torch.nn as nn
NOTE = "__global__ void square(float* x) {}"
class ModelNew(nn.Module):
    def __init__(self, size, scale=1.0):
        super().__init__()
    def forward(self, x):
        return x * x
"""
CPU = """\
import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline
source = "torch::Tensor square(torch::Tensor x) { return x * x; }"
extension = load_inline(name="square", cpp_sources=source, functions=["square"])
class ModelNew(nn.Module):
    def __init__(self, size, scale=1.0):
        super().__init__()
    def forward(self, x):
        return extension.square(x)
"""


@pytest.mark.parametrize("native", [False, True])
def test_a_plain_pytorch_wrapper_is_an_error(native: bool) -> None:
    assert [f.rule for f in errors(PLAIN, native=native)] == ["R04"]


def test_native_source_without_a_kernel_is_an_error_except_on_the_cpu() -> None:
    assert [f.rule for f in errors(CPU)] == ["R04"]
    assert errors(CPU, native=True) == []


def test_an_empty_extension_is_an_error_on_the_cpu_too() -> None:
    code = CPU.replace("torch::Tensor square(torch::Tensor x) { return x * x; }", "")
    assert "R04" in [f.rule for f in errors(code, native=True)]


def test_a_global_in_a_comment_or_a_string_is_no_kernel() -> None:
    hint = '// __global__ void comment();\nauto s = "__global__ void text();";'
    for code in (NOTHING, NOTHING.replace("#include <torch/extension.h>", hint)):
        assert [f.rule for f in errors(code)] == ["R04"]


@pytest.mark.parametrize(
    "pair",
    [
        ("cuda_sources=cuda_source", "cuda_sources=open(__file__).read()"),
        ("#include <torch/extension.h>\n", '#include "own_kernels.cuh"\n'),
        (
            "#include <torch/extension.h>\n",
            "using thrust::transform;\nauto f = thrust::plus<float>();\n",
        ),
    ],
)
def test_kernels_that_may_be_elsewhere_are_no_error(pair: tuple[str, str]) -> None:
    assert errors(NO_KERNELS.replace(*pair)) == []


def test_kernels_that_are_never_launched_are_an_error() -> None:
    (finding,) = errors(NO_LAUNCHES)
    assert finding.rule == "R04"
    assert place(finding) == line_of(NO_LAUNCHES, "__global__ void square_forward_kernel")


def test_one_kernel_that_is_never_launched_is_a_warning() -> None:
    code = changed(
        (
            "__global__ void square_forward_kernel",
            "__global__ void unused_square_kernel(float* x) { x[0] = 1; }\n\n__global__ void square_forward_kernel",
        )
    )
    (finding,) = found(code, "R04")
    assert finding.severity is Severity.WARNING
    assert place(finding) == line_of(code, "unused_square_kernel")


@pytest.mark.parametrize(
    "launch",
    [
        "cudaLaunchKernel((void*)unused_square_kernel, 1, 1, nullptr, 0, 0);",
        "auto chosen = unused_square_kernel; chosen<<<1, 1>>>(nullptr);",
    ],
)
def test_other_ways_to_launch_count(launch: str) -> None:
    code = changed(
        (
            "__global__ void square_forward_kernel",
            "__global__ void unused_square_kernel(float* x) { x[0] = 1; }\n\n__global__ void square_forward_kernel",
        ),
        (
            "    auto y = torch::empty_like(x);\n",
            "    auto y = torch::empty_like(x);\n    " + launch + "\n",
        ),
    )
    assert found(code, "R04") == []


def test_kernels_that_are_all_empty_are_an_error() -> None:
    code = re.sub(
        r"(__global__ void \w+\([^)]*\)) \{.*?\n}\n",
        r"\1 {\n    // TODO\n}\n",
        HONEST,
        flags=re.DOTALL,
    )
    (finding,) = errors(code)
    assert "empty" in finding.message


@pytest.mark.parametrize(
    "name", ["kernel", "k", "foo", "kernel1", "my_kernel", "cuda_kernel", "test"]
)
def test_weak_kernel_names_are_warnings(name: str) -> None:
    code = changed(("square_forward_kernel", name))
    findings = found(code, "R12")
    assert [f.severity for f in findings] == [Severity.WARNING]
    assert place(findings[0]) == line_of(code, f"__global__ void {name}(const")


@pytest.mark.parametrize("name", ["relu_kernel", "conv2d", "kernel_softmax_rows", "matmul_tiled"])
def test_telling_kernel_names_are_not_flagged(name: str) -> None:
    assert found(changed(("square_forward_kernel", name)), "R12") == []


def test_launches_that_nobody_checks_are_a_warning() -> None:
    code = changed(("    C10_CUDA_KERNEL_LAUNCH_CHECK();\n", ""))
    (finding,) = found(code, "screen.launch_check")
    assert finding.severity is Severity.WARNING
    assert place(finding) == line_of(code, "square_forward_kernel<<<")


@pytest.mark.parametrize("check", ["cudaGetLastError()", "AT_CUDA_CHECK(cudaPeekAtLastError())"])
def test_other_checks_count(check: str) -> None:
    assert found(changed(("C10_CUDA_KERNEL_LAUNCH_CHECK()", check)), "screen.launch_check") == []


@pytest.mark.parametrize("config", ["<<<blocks, threads>>>", "<<<blocks, threads, 0, 0>>>"])
def test_the_default_stream_is_noted(config: str) -> None:
    code = changed(("<<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>", config))
    (finding,) = found(code, "screen.stream")
    assert finding.severity is Severity.NOTE
    assert place(finding) == line_of(code, "square_forward_kernel<<<")


@pytest.mark.parametrize(
    "call",
    [
        "at::mm(x, x)",
        "torch::conv2d(x, x)",
        "at::native::relu(x)",
        "x.matmul(x)",
        "torch::nn::functional::softmax(x, 1)",
        "cublasSgemm(h)",
    ],
)
def test_library_operators_in_native_code_are_warnings(call: str) -> None:
    code = changed(("    return y;\n", f"    auto z = {call};\n    return y;\n"))
    assert [f.severity for f in found(code, "R04")] == [Severity.WARNING]
    assert place(found(code, "R04")[0]) == line_of(code, call)


def test_library_operators_in_native_comments_are_not_flagged() -> None:
    code = changed(
        ("    return y;\n", '    // at::mm(x, x)\n    auto s = "torch::mm(";\n    return y;\n')
    )
    assert found(code, "R04") == []


def test_launch_bounds_and_templates_do_not_hide_a_kernel() -> None:
    code = changed(
        (
            "__global__ void square_forward_kernel(",
            "template <typename T, int N = 4>\n__global__ void __launch_bounds__(256, sizeof(T) == 4 ? 2 : 1)\nsquare_forward_kernel(",
        ),
        ("square_forward_kernel<<<", "square_forward_kernel<float, 2><<<"),
    )
    assert screened(code).findings == ()
    assert screened(code).kernels[0] == "square_forward_kernel"
