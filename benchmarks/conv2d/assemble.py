"""Puts a conv2d variant together from its parts and the tracked solution's general kernel.

    python benchmarks/conv2d/assemble.py OUT             writes conv2d.py (wgmma), conv2d_mma.py
    python benchmarks/conv2d/assemble.py OUT --emulated  both with plain C++ in place of PTX

A variant is ``solutions/conv2d.py`` with another docstring, the parts in front of its entry
points, and in each entry point a first try of the tensor-core kernels. The general kernel and the
Python around it stay the solution's own; where they no longer read as expected, this stops.

The emulated form also pretends to have three multiprocessors, so that blocks cross several tiles,
and sends even tiny cases to the tensor-core kernels.

Does not: compile or run anything (``measure.py`` does).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOLUTION = ROOT / "solutions" / "conv2d.py"
HOPPER_FLAGS = '["-DCONV2D_HOPPER", "-gencode=arch=compute_90a,code=sm_90a"]'
EMULATED_FLAGS = '["-DCONV2D_HOPPER"]'

_FOREWORD = re.compile(r"/\*.*?\*/\n", re.DOTALL)
_KERNEL = "template <class Engine>\n__global__"
_ENTRY = "}  // namespace\n\ntorch::Tensor conv2d_forward("
_EMPTY = "  if ({0}.numel() == 0) {{\n    return {0};\n  }}\n"
_FORWARD = """\
  if (x.scalar_type() == at::kFloat &&
      correlate_forward(g, x, w, b.defined() ? b.data_ptr<float>() : nullptr, output, tf32)) {
    return output;
  }
"""
_GRAD_INPUT = """\
  if (dy.scalar_type() == at::kFloat && correlate_grad_input(g, dy, w, grad_input, tf32)) {
    return grad_input;
  }
"""
_EMPTY_WEIGHT = "  auto grad_weight = torch::empty(weight.sizes(), weight.options());\n"
_GRAD_WEIGHT = """\
  if (dy.scalar_type() == at::kFloat && weight_gradient(g, dy, x, grad_weight, tf32)) {
    return grad_weight;
  }
"""
_CALL = "return conv2d_extension.conv2d_forward(x, weight, bias, *ctx.geometry)"
_CALL_TF32 = """return conv2d_extension.conv2d_forward(
            x, weight, bias, *ctx.geometry, torch.backends.cudnn.allow_tf32
        )"""
_ARGUMENTS = "        arguments = (grad_output, *ctx.saved_tensors, *ctx.geometry)\n"
_ARGUMENTS_TF32 = """\
        tf32 = torch.backends.cudnn.allow_tf32
        arguments = (grad_output, *ctx.saved_tensors, *ctx.geometry, tf32)
"""
_SOURCES = "    cuda_sources=cuda_source,\n"
_OPENING = "    int64_t groups) {\n  const Geometry g = make_geometry"


def part(name: str) -> str:
    """A part's text without the comment that it opens with."""
    text = (HERE / "parts" / f"{name}.cu").read_text()
    return _FOREWORD.sub("", text, count=1)


def kernels(emulated: bool) -> str:
    """Everything that is put in front of the entry points."""
    if emulated:
        instructions = part("instructions_emulated") + part("wgmma_emulated")
    else:
        instructions = part("instructions") + part("wgmma")
    correlation = part("correlation")
    at = correlation.index(_KERNEL)
    correlation = correlation[:at] + part("correlation_wgmma") + "\n" + correlation[at:]
    parts = (part("host"), instructions, correlation, part("dispatch"), part("weight_gradient"))
    return "\n".join(parts)


def assemble(hopper: bool = True, emulated: bool = False) -> str:
    """A whole variant: a module that builds its extension when it is imported."""
    solution = SOLUTION.read_text()
    code = solution[solution.index('"""\n', 3) + len('"""\n') :]
    text = (HERE / "parts" / "docstring.txt").read_text() + code
    edits = [
        (_ENTRY, f"{kernels(emulated)}\n{_ENTRY}"),
        ("    int64_t groups);", "    int64_t groups,\n    bool tf32);"),
        (_OPENING, _OPENING.replace("groups)", "groups,\n    bool tf32)")),
        (_EMPTY.format("output"), _EMPTY.format("output") + _FORWARD),
        (_EMPTY.format("grad_input"), _EMPTY.format("grad_input") + _GRAD_INPUT),
        (_EMPTY_WEIGHT + "\n", _EMPTY_WEIGHT + _GRAD_WEIGHT + "\n"),
        (_CALL, _CALL_TF32),
        (_ARGUMENTS, _ARGUMENTS_TF32),
    ]
    if hopper:
        flags = EMULATED_FLAGS if emulated else HOPPER_FLAGS
        edits.append((_SOURCES, f"{_SOURCES}    extra_cuda_cflags={flags},\n"))
    if emulated:
        edits.append(("  return count;\n", "  return 3;\n"))
        edits.append(
            ("constexpr double kUsefulShare = 0.25;", "constexpr double kUsefulShare = 0.0;")
        )
    for old, new in edits:
        if old not in text:
            raise SystemExit(f"{SOLUTION.name} or a part no longer holds: {old!r}")
        text = text.replace(old, new)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--emulated", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, hopper in (("conv2d", True), ("conv2d_mma", False)):
        (asked.out / f"{name}.py").write_text(assemble(hopper, asked.emulated))


if __name__ == "__main__":
    main()
