"""The builder's loop, inside the sandbox: writes the sources as torch would, and runs ninja.

The build files are written by torch's own ``cpp_extension``, so flags, include
paths and the generated binding are those of a stock ``load_inline``. Whatever
this process leaves in its directory is data to the outside, never trusted.

Does not: import what it built.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from torch.utils import cpp_extension

from harness.build.spec import ExtensionSpec
from harness.wire import Channel, Message, WireClosed

_LONGEST_LOG = 256 << 10
_TORCH_IMPLICIT_CUDA = (
    "#include <torch/types.h>",
    "#include <cuda.h>",
    "#include <cuda_runtime.h>",
)


def serve(channel: Channel) -> None:
    """Build one extension, answer, and end with the channel."""
    while True:
        try:
            message, _ = channel.receive()
        except WireClosed:
            return
        token = message.pop("token", None)
        spec = ExtensionSpec.model_validate_json(message["spec"])
        os.environ["TORCH_CUDA_ARCH_LIST"] = message["architectures"]
        channel.send(build(spec, link=message["link"], jobs=message["jobs"]) | {"token": token})


def build(spec: ExtensionSpec, *, link: bool, jobs: int) -> Message:
    """Build ``spec`` in the current directory.

    Without ``link`` only the objects are made: a torch without CUDA has no
    library to link a CUDA extension against, but its headers compile.
    """
    begun = time.monotonic()
    directory = Path.cwd()
    try:
        sources = write_sources(spec, directory)
        write_ninja(spec, directory, sources)
    except (RuntimeError, OSError, ValueError) as error:
        return {"ok": False, "log": str(error), "seconds": time.monotonic() - begun}
    targets = [] if link else [f"{Path(s).stem}{_object_suffix(s)}" for s in sources]
    done = subprocess.run(
        ["ninja", "-v", "-k", "0", "-j", str(jobs), *targets],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    log = done.stdout.decode(errors="replace")[-_LONGEST_LOG:]
    return {"ok": done.returncode == 0, "log": log, "seconds": time.monotonic() - begun}


def write_sources(spec: ExtensionSpec, directory: Path) -> list[str]:
    """Write the translation units of a spec, as ``load_inline`` does; their paths."""
    if spec.kind == "files":
        for name, text in spec.files:
            (directory / name).write_text(text)
        units = [n for n, _ in spec.files if not n.endswith((".h", ".hpp", ".cuh"))]
        return [str(directory / name) for name in units]
    main = directory / "main.cpp"
    main.write_text("\n".join([*cpp_prefix(spec), *spec.cpp_sources, *_binding(spec)]))
    sources = [str(main)]
    if spec.cuda_sources:
        unit = directory / "cuda.cu"
        unit.write_text("\n".join([*cuda_prefix(spec), *spec.cuda_sources]))
        sources.append(str(unit))
    return sources


def cpp_prefix(spec: ExtensionSpec) -> tuple[str, ...]:
    """The lines that ``load_inline`` puts before the C++ sources."""
    return () if spec.no_implicit_headers else ("#include <torch/extension.h>",)


def cuda_prefix(spec: ExtensionSpec) -> tuple[str, ...]:
    """The lines that ``load_inline`` puts before the CUDA sources."""
    return () if spec.no_implicit_headers else _TORCH_IMPLICIT_CUDA


def write_ninja(spec: ExtensionSpec, directory: Path, sources: list[str]) -> None:
    """Let torch write ``build.ninja`` for the sources."""
    cpp_extension._write_ninja_file_to_build_library(
        path=str(directory / "build.ninja"),
        name=spec.name,
        sources=sources,
        extra_cflags=list(spec.extra_cflags),
        extra_cuda_cflags=list(spec.extra_cuda_cflags),
        extra_sycl_cflags=[],
        extra_ldflags=cpp_extension._prepare_ldflags(
            list(spec.extra_ldflags), spec.is_cuda, False, False, False
        ),
        extra_include_paths=list(spec.extra_include_paths),
        with_cuda=spec.is_cuda,
        with_sycl=False,
        is_standalone=False,
    )


def _binding(spec: ExtensionSpec) -> list[str]:
    if spec.functions is None:
        return []
    wrap = "torch::wrap_pybind_function({})" if spec.with_pytorch_error_handling else "{}"
    defs = [f'm.def("{n}", {wrap.format(n)}, "{doc}");' for n, doc in spec.functions]
    return ["PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {", *defs, "}"]


def _object_suffix(source: str) -> str:
    return ".cuda.o" if source.endswith(".cu") else ".o"
