"""The builder's loop, inside the sandbox: writes the sources as torch would, and runs ninja.

The build files are written by torch's own ``cpp_extension``, so flags, include
paths and the generated binding are those of a stock ``load_inline``. Where something is
prepared for it, a shortened build of the same commands runs first; whatever it cannot do,
and every message, is left to the stock build. What this process leaves in its directory is
data to the outside, never trusted.

Does not: import what it built.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils import cpp_extension

from harness.build import diagnostics, emulated, units
from harness.build.fast import plan
from harness.build.fast.prepared import Prepared
from harness.build.spec import ExtensionSpec
from harness.devices import nvcc
from harness.emulation.dialect import Untranslatable
from harness.records import Route
from harness.wire import Channel, Message, WireClosed

_LONGEST_LOG = 256 << 10
_NICENESS = 10
"""Compilers give way to who judges and clocks on the same cores."""
_FAST_SECONDS = 150.0
"""A fast build that takes longer has gone wrong; the rest of the time is the stock build's."""


def serve(channel: Channel) -> None:
    """Build one extension, answer, and end with the channel."""
    _give_way()
    while True:
        try:
            message, _ = channel.receive()
        except WireClosed:
            return
        token = message.pop("token", None)
        spec = ExtensionSpec.model_validate_json(message["spec"])
        os.environ["TORCH_CUDA_ARCH_LIST"] = message["architectures"]
        jobs = message["jobs"]
        if message["prepared"] is not None:
            done = build_emulated(spec, Path(message["prepared"]), jobs=jobs)
        else:
            done = build(spec, link=message["link"], jobs=jobs, fast=message["fast"])
        channel.send(done | {"token": token})


def _give_way() -> None:
    """Leave the processor, and on a large host one core in eight, to who judges and clocks."""
    os.nice(_NICENESS)
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setaffinity(0, cores[len(cores) // 8 :])


def build(
    spec: ExtensionSpec, *, link: bool, jobs: int, fast: Mapping[str, str | None] | None
) -> Message:
    """Build ``spec`` in the current directory.

    Without ``link`` only the objects are made: a torch without CUDA has no
    library to link a CUDA extension against, but its headers compile. ``fast`` names the
    folders that were prepared, if any were.
    """
    begun = time.monotonic()
    directory = Path.cwd()
    try:
        sources = write_sources(spec, directory)
        write_ninja(spec, directory, sources)
    except (RuntimeError, OSError, ValueError) as error:
        return {"ok": False, "log": str(error), "seconds": time.monotonic() - begun}
    targets = [] if link else [f"{Path(s).stem}{_object_suffix(s)}" for s in sources]
    route, why = Route.STOCK, ""
    ok, log = False, ""
    if fast is not None:
        log, why = _build_fast(spec, directory, fast, link=link, jobs=jobs)
        ok = not why
        route = Route.FAST if ok else Route.STOCK
    if not ok:
        ok, log = _run_ninja(directory, jobs, targets)
    seconds = time.monotonic() - begun
    return {"ok": ok, "log": log, "seconds": seconds, "route": route, "reason": why}


def build_emulated(spec: ExtensionSpec, prepared: Path, *, jobs: int) -> Message:
    """Build ``spec`` for the emulated device in the current directory."""
    begun = time.monotonic()
    directory = Path.cwd()
    route, why = Route.FAST, ""
    try:
        made = emulated.translate(spec)
        emulated.write(spec, made, directory, prepared)
        ok, log = _run_ninja(directory, jobs, [])
        again = None if ok else emulated.with_all_headers(made, log)
        if again is not None:
            route, why = Route.STOCK, "it may need all of torch's headers"
            emulated.write(spec, again, directory, prepared)
            ok, log = _run_ninja(directory, jobs, [])
    except (Untranslatable, OSError, ValueError) as error:
        ok, log = False, str(error)
    seconds = time.monotonic() - begun
    return {"ok": ok, "log": log, "seconds": seconds, "route": route, "reason": why}


def _build_fast(
    spec: ExtensionSpec,
    directory: Path,
    fast: Mapping[str, str | None],
    *,
    link: bool,
    jobs: int,
) -> tuple[str, str]:
    """What the shortened build said, and why it did not make everything, where it did not."""
    try:
        planned = plan.write(spec, directory, Prepared.at(fast), linked=link)
        if planned.reasons:
            return "", "; ".join(planned.reasons)
        ok, log = _until_one_fails(["ninja", "-f", plan.FILE, "-j", str(jobs)], directory)
        if not ok:
            return log, _first_error(log)
        if planned.library:
            (directory / planned.library).rename(directory / f"{spec.name}.so")
    except Exception as error:  # whatever it is, the stock build knows nothing of it
        return "", f"the fast build could not be made: {error!r}"[:500]
    return log, ""


def _first_error(log: str) -> str:
    found = diagnostics.errors(log)
    if not found:
        return "the fast build failed, or took too long"
    place = f"{found[0].file}:{found[0].line}: " if found[0].file else ""
    return f"the fast build said {place}{found[0].text}"[:500]


def _until_one_fails(command: Sequence[str], directory: Path) -> tuple[bool, str]:
    """Run ninja, and end it with all that it runs as soon as one step has failed, or time is up."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    rows = []
    failed = False
    late = threading.Timer(_FAST_SECONDS, process.terminate)
    late.start()
    assert process.stdout is not None
    for row in process.stdout:
        rows.append(row)
        if row.startswith("FAILED: ") and not failed:
            failed = True
            process.terminate()  # ninja ends what it runs
    late.cancel()
    return process.wait() == 0 and not failed, "".join(rows)[-_LONGEST_LOG:]


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
    if cpp_extension.CUDA_HOME is None and (compiler := nvcc()) is not None:
        # A torch without CUDA does not look for the toolkit; objects can be compiled all the same.
        cpp_extension.CUDA_HOME = str(Path(compiler).resolve().parent.parent)
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
