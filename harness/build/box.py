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

from harness.build import emulated, units
from harness.build.spec import ExtensionSpec
from harness.emulation.dialect import Untranslatable
from harness.wire import Channel, Message, WireClosed

_LONGEST_LOG = 256 << 10
_NICENESS = 10
"""Compilers give way to who judges and clocks on the same cores."""


def serve(channel: Channel) -> None:
    """Build one extension, answer, and end with the channel."""
    os.nice(_NICENESS)
    while True:
        try:
            message, _ = channel.receive()
        except WireClosed:
            return
        token = message.pop("token", None)
        spec = ExtensionSpec.model_validate_json(message["spec"])
        os.environ["TORCH_CUDA_ARCH_LIST"] = message["architectures"]
        if message["prepared"] is not None:
            done = build_emulated(spec, Path(message["prepared"]), jobs=message["jobs"])
        else:
            done = build(spec, link=message["link"], jobs=message["jobs"])
        channel.send(done | {"token": token})


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
    ok, log = _run_ninja(directory, jobs, targets)
    return {"ok": ok, "log": log, "seconds": time.monotonic() - begun}


def build_emulated(spec: ExtensionSpec, prepared: Path, *, jobs: int) -> Message:
    """Build ``spec`` for the emulated device in the current directory."""
    begun = time.monotonic()
    directory = Path.cwd()
    try:
        made = emulated.translate(spec)
        emulated.write(spec, made, directory, prepared)
        ok, log = _run_ninja(directory, jobs, [])
        again = None if ok else emulated.with_all_headers(made, log)
        if again is not None:
            emulated.write(spec, again, directory, prepared)
            ok, log = _run_ninja(directory, jobs, [])
    except (Untranslatable, OSError, ValueError) as error:
        ok, log = False, str(error)
    return {"ok": ok, "log": log, "seconds": time.monotonic() - begun}


def _run_ninja(directory: Path, jobs: int, targets: list[str]) -> tuple[bool, str]:
    """Whether everything was made, and what the tools said."""
    done = subprocess.run(
        ["ninja", "-v", "-k", "0", "-j", str(jobs), *targets],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode == 0, done.stdout.decode(errors="replace")[-_LONGEST_LOG:]


def write_sources(spec: ExtensionSpec, directory: Path) -> list[str]:
    """Write the translation units of a spec, as ``load_inline`` does; their paths."""
    for name, text in units.headers(spec):
        (directory / name).write_text(text)
    paths = []
    for unit in units.of(spec):
        (directory / unit.name).write_text(unit.whole)
        paths.append(str(directory / unit.name))
    return paths


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


def _object_suffix(source: str) -> str:
    return ".cuda.o" if source.endswith(".cu") else ".o"
