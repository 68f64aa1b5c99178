"""The translation units of a spec, as torch's ``load_inline`` and ``load`` make them.

Does not: write files, or import torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.build.spec import ExtensionSpec

_TORCH_IMPLICIT_CUDA = (
    "#include <torch/types.h>",
    "#include <cuda.h>",
    "#include <cuda_runtime.h>",
)


@dataclass(frozen=True)
class Unit:
    """One file that is compiled."""

    name: str
    """``main.cpp``, ``cuda.cu``, or the file's own name."""
    implicit: tuple[str, ...]
    """Lines that stand before the candidate's text."""
    text: str
    """The candidate's text, and the binding that torch generates."""

    @property
    def whole(self) -> str:
        """What a stock build compiles."""
        return "\n".join([*self.implicit, self.text])


def of(spec: ExtensionSpec) -> list[Unit]:
    """Every unit of a spec; headers among its files are none."""
    if spec.kind == "files":
        return [Unit(name, (), text) for name, text in spec.files if not is_header(name)]
    cpp, cuda = (
        ((), ())
        if spec.no_implicit_headers
        else (("#include <torch/extension.h>",), _TORCH_IMPLICIT_CUDA)
    )
    made = [Unit("main.cpp", cpp, "\n".join([*spec.cpp_sources, *_binding(spec)]))]
    if spec.cuda_sources:
        made.append(Unit("cuda.cu", cuda, "\n".join(spec.cuda_sources)))
    return made


def headers(spec: ExtensionSpec) -> list[tuple[str, str]]:
    """Names and texts of the headers among a spec's files."""
    return [(name, text) for name, text in spec.files if is_header(name)]


def is_header(name: str) -> bool:
    """Whether a file is included, not compiled."""
    return name.endswith((".h", ".hpp", ".cuh"))


def _binding(spec: ExtensionSpec) -> list[str]:
    if spec.functions is None:
        return []
    wrap = "torch::wrap_pybind_function({})" if spec.with_pytorch_error_handling else "{}"
    defs = [f'm.def("{n}", {wrap.format(n)}, "{doc}");' for n, doc in spec.functions]
    return ["PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {", *defs, "}"]
