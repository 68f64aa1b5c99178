"""A real model answer, repaired one flaw at a time: what the harness says after each repair.

The answer is ``tests/data/real_answer_conv2d.txt``. ``variants`` gives the texts;
``benchmarks/spine.py OUT real_answer`` judges them on a GPU.
"""

from __future__ import annotations

from pathlib import Path

from harness.extract import extract

ANSWER = Path(__file__).resolve().parents[1] / "tests" / "data" / "real_answer_conv2d.txt"

_DECLARATION = (
    "void conv2d_forward(torch::Tensor input, torch::Tensor weight, torch::Tensor bias, "
    "torch::Tensor output, int stride_h, int stride_w, int padding_h, int padding_w, "
    "int dilation_h, int dilation_w, int groups);"
)
_RECURSION_BEGINS = "        # Compute gradients using PyTorch's autograd for simplicity\n"
_RECURSION_ENDS = "            grad_input, grad_weight, grad_bias = grad\n"
_LIBRARY_BACKWARD = """\
        arguments = (grad_output, stride, padding, dilation, groups)
        grad_input = torch.nn.grad.conv2d_input(input.shape, weight, *arguments)
        grad_weight = torch.nn.grad.conv2d_weight(input, weight.shape, *arguments)
        grad_bias = None if bias is None else grad_output.sum((0, 2, 3))
"""
_OWN_PARAMETERS_BEGIN = "        # Initialize weights and bias\n        kh, kw = kernel_size\n"
_OWN_PARAMETERS_END = "            nn.init.uniform_(self.bias, -bound, bound)\n"
_REFERENCE_PARAMETERS = """\
        self.conv2d = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
"""
_TILE = "((output.size(3) + 15) / 16)"


def variants() -> dict[str, str]:
    """The candidate after each repair, the earlier ones included, in order."""
    text = extract(ANSWER.read_text()).candidate or ""
    found = {"0_as_it_came": text}
    for number, (name, repair) in enumerate(REPAIRS.items(), 1):
        repaired = repair(text)
        if repaired == text:
            raise RuntimeError(f"the repair {name!r} changes nothing")
        text = repaired
        found[f"{number}_{name}"] = text
    return found


def _import_math(text: str) -> str:
    return text.replace("import torch\n", "import math\nimport torch\n", 1)


def _declare(text: str) -> str:
    return text.replace("cpp_sources=''", f"cpp_sources='{_DECLARATION}'")


def _no_recursion(text: str) -> str:
    begin, end = text.index(_RECURSION_BEGINS), text.index(_RECURSION_ENDS)
    return text[:begin] + _LIBRARY_BACKWARD + text[end + len(_RECURSION_ENDS) :]


def _state_names(text: str) -> str:
    begin, end = text.index(_OWN_PARAMETERS_BEGIN), text.index(_OWN_PARAMETERS_END)
    text = text[:begin] + _REFERENCE_PARAMETERS + text[end + len(_OWN_PARAMETERS_END) :]
    return text.replace("x, self.weight, self.bias,", "x, self.conv2d.weight, self.conv2d.bias,")


def _empty_bias(text: str) -> str:
    call = "conv2d_forward(input, weight, bias, output,"
    empty = "input.new_empty(0) if bias is None else bias"
    return text.replace(call, f"conv2d_forward(input, weight, {empty}, output,")


def _tiles(text: str) -> str:
    text = text.replace(
        "int h = threadIdx.y;", f"int h = (blockIdx.z / {_TILE}) * 16 + threadIdx.y;"
    )
    text = text.replace(
        "int w = threadIdx.x;", f"int w = (blockIdx.z % {_TILE}) * 16 + threadIdx.x;"
    )
    text = text.replace("dim3 threads(out_width, out_height);", "dim3 threads(16, 16);")
    return text.replace(
        "dim3 blocks(batch_size, out_channels);",
        "dim3 blocks(batch_size, out_channels,\n"
        "        ((out_width + 15) / 16) * ((out_height + 15) / 16));",
    )


def _current_stream(text: str) -> str:
    text = text.replace(
        "#include <cuda_runtime.h>", "#include <cuda_runtime.h>\n#include <c10/cuda/CUDAStream.h>"
    )
    return text.replace(
        "<<<blocks, threads>>>", "<<<blocks, threads, 0, c10::cuda::getCurrentCUDAStream()>>>"
    )


REPAIRS = {
    "import_math": _import_math,
    "declare_conv2d_forward": _declare,
    "backward_without_recursion": _no_recursion,
    "reference_state_names": _state_names,
    "empty_tensor_for_no_bias": _empty_bias,
    "blocks_of_256_threads": _tiles,
    "current_stream": _current_stream,
}
