"""Stands in for ``load_inline`` and ``load``: asks the oracle for the artifact and imports it.

The candidate states *what* is to be built; it is built elsewhere, without it.

Does not: compile, or write outside the process.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils import cpp_extension

from harness.wire import Channel

Spec = dict[str, Any]
Obtain = Callable[[Spec], Any]


def intercept(obtain: Obtain) -> None:
    """Make torch's ``load_inline`` and ``load`` call ``obtain`` with what is to be built."""

    def load_inline(
        name: str,
        cpp_sources: str | Sequence[str],
        cuda_sources: str | Sequence[str] | None = None,
        sycl_sources: str | Sequence[str] | None = None,
        functions: str | Sequence[str] | Mapping[str, str] | None = None,
        extra_cflags: Sequence[str] | None = None,
        extra_cuda_cflags: Sequence[str] | None = None,
        extra_sycl_cflags: Sequence[str] | None = None,
        extra_ldflags: Sequence[str] | None = None,
        extra_include_paths: Sequence[str] | None = None,
        build_directory: str | None = None,
        verbose: bool = False,
        with_cuda: bool | None = None,
        with_sycl: bool | None = None,
        is_python_module: bool = True,
        with_pytorch_error_handling: bool = True,
        keep_intermediates: bool = True,
        use_pch: bool = False,
        no_implicit_headers: bool = False,
    ) -> Any:
        del build_directory, verbose, keep_intermediates, use_pch, extra_sycl_cflags
        if sycl_sources or with_sycl:
            raise RuntimeError("SYCL sources are not supported")
        return obtain(
            {
                "kind": "inline",
                "name": name,
                "cpp_sources": _texts(cpp_sources),
                "cuda_sources": _texts(cuda_sources),
                "functions": _functions(functions),
                "extra_cflags": _texts(extra_cflags),
                "extra_cuda_cflags": _texts(extra_cuda_cflags),
                "extra_ldflags": _texts(extra_ldflags),
                "extra_include_paths": _texts(extra_include_paths),
                "with_cuda": with_cuda,
                "is_python_module": bool(is_python_module),
                "with_pytorch_error_handling": bool(with_pytorch_error_handling),
                "no_implicit_headers": bool(no_implicit_headers),
            }
        )

    def load(
        name: str,
        sources: str | Sequence[str],
        extra_cflags: Sequence[str] | None = None,
        extra_cuda_cflags: Sequence[str] | None = None,
        extra_sycl_cflags: Sequence[str] | None = None,
        extra_ldflags: Sequence[str] | None = None,
        extra_include_paths: Sequence[str] | None = None,
        build_directory: str | None = None,
        verbose: bool = False,
        with_cuda: bool | None = None,
        with_sycl: bool | None = None,
        is_python_module: bool = True,
        is_standalone: bool = False,
        keep_intermediates: bool = True,
    ) -> Any:
        del build_directory, verbose, keep_intermediates, extra_sycl_cflags, with_sycl
        if is_standalone:
            raise RuntimeError("a stand-alone program is not an extension")
        return obtain(
            {
                "kind": "files",
                "name": name,
                "files": [[Path(p).name, Path(p).read_text()] for p in _texts(sources)],
                "extra_cflags": _texts(extra_cflags),
                "extra_cuda_cflags": _texts(extra_cuda_cflags),
                "extra_ldflags": _texts(extra_ldflags),
                "extra_include_paths": _texts(extra_include_paths),
                "with_cuda": with_cuda,
                "is_python_module": bool(is_python_module),
            }
        )

    cpp_extension.load_inline = load_inline
    cpp_extension.load = load


def from_oracle(channel: Channel) -> Obtain:
    """Ask the oracle for each artifact, and import what it sends."""

    def obtain(spec: Spec) -> Any:
        channel.send({"extension": spec})
        reply, fds = channel.receive()
        if not fds:
            raise RuntimeError(str(reply.get("error", "the extension could not be built")))
        path = _private_copy(str(spec["name"]), fds[0])
        if not spec["is_python_module"]:
            torch.ops.load_library(path)
            return None
        return _import_extension(str(spec["name"]), path)

    return obtain


class Unbuilt(ModuleType):
    """What ``load_inline`` gives while the specs are only collected: every call fails."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def unbuilt(*_: Any, **__: Any) -> Any:
            raise RuntimeError(f"{self.__name__}.{name} is not built yet")

        return unbuilt


def collecting(channel: Channel) -> Obtain:
    """Report each spec and go on with a module that has every name and can do nothing."""

    def obtain(spec: Spec) -> Any:
        channel.send({"extension": spec})
        return Unbuilt(str(spec["name"]))

    return obtain


def _private_copy(name: str, fd: int) -> str:
    """The sandbox lets no library be opened from outside: copy it into the work directory."""
    with (
        open(fd, "rb") as sent,
        tempfile.NamedTemporaryFile(
            dir=Path.cwd(), prefix=name, suffix=".so", delete=False
        ) as copy,
    ):
        shutil.copyfileobj(sent, copy)
    return copy.name


def _import_extension(name: str, path: str) -> ModuleType:
    loader = ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    if spec is None:
        raise ImportError(f"{name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _texts(value: str | Sequence[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(v) for v in value]


def _functions(value: str | Sequence[str] | Mapping[str, str] | None) -> list[list[str]] | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return [[str(k), str(v)] for k, v in value.items()]
    return [[name, name] for name in _texts(value)]
