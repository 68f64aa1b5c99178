"""What a candidate asked ``load_inline`` or ``load`` to build, validated, and its content key.

The text comes from an untrusted process: names become file names and macro
values, so they are held to what those may be.

Does not: build, or import torch.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, field_validator

from harness.records import Record

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}$")]
Texts = tuple[str, ...]


class ExtensionSpec(Record):
    """One extension to build."""

    kind: Literal["inline", "files"]
    """``load_inline`` or ``load``."""
    name: Name
    """The extension's module name."""
    cpp_sources: Texts = ()
    """C++ texts (inline)."""
    cuda_sources: Texts = ()
    """CUDA texts (inline)."""
    functions: tuple[tuple[Name, str], ...] | None = None
    """Functions to bind, with their docstrings (inline)."""
    files: tuple[tuple[FileName, str], ...] = ()
    """File names and their texts (files)."""
    extra_cflags: Texts = ()
    extra_cuda_cflags: Texts = ()
    extra_ldflags: Texts = ()
    extra_include_paths: Texts = ()
    with_cuda: bool | None = None
    is_python_module: bool = True
    with_pytorch_error_handling: bool = True
    no_implicit_headers: bool = False

    @field_validator("functions")
    @classmethod
    def _docstrings_fit_a_literal(
        cls, functions: tuple[tuple[str, str], ...] | None
    ) -> tuple[tuple[str, str], ...] | None:
        """The docstring lands in a C++ string literal of the generated binding."""
        for name, doc in functions or ():
            if '"' in doc or "\\" in doc or "\n" in doc:
                raise ValueError(f"the docstring of {name} does not fit a C++ string literal")
        return functions

    @property
    def is_cuda(self) -> bool:
        """Whether it needs the CUDA compiler."""
        if self.with_cuda is not None:
            return self.with_cuda
        return bool(self.cuda_sources) or any(n.endswith((".cu", ".cuh")) for n, _ in self.files)

    @property
    def texts(self) -> Texts:
        """All source texts."""
        return (*self.cpp_sources, *self.cuda_sources, *(text for _, text in self.files))

    def key(self, toolchain: str) -> str:
        """Content address of what is built from this spec by ``toolchain``."""
        digest = hashlib.sha256(toolchain.encode() + b"\0" + self.model_dump_json().encode())
        return digest.hexdigest()
