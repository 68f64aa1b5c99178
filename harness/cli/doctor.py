"""Looks at this machine: what the harness can do here, and how to make it do more.

Does not: change anything, or import torch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from harness.devices import (
    architectures_of,
    cpu,
    cxx,
    gpus,
    no_emulation,
    nvcc,
    torch_cuda,
    torch_version,
)
from harness.settings import Settings


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    good: bool
    says: str
    advice: str = ""


def examine() -> list[Check]:
    """Every check, in the order in which a judgement needs it."""
    compilers = [_cpp(), _nvcc(), _fast_builds()]
    return [_python(), _torch(), *_gpus(), *compilers, _emulated(), _sandbox(), _cache()]


def _python() -> Check:
    version = sys.version.split()[0]
    return Check("Python", sys.version_info >= (3, 11), f"{version} at {sys.executable}")


def _torch() -> Check:
    version = torch_version()
    if version == "none":
        return Check("torch", False, "not installed", "Install PyTorch 2.9 or newer.")
    build = f"built with CUDA {torch_cuda()}" if torch_cuda() else "a CPU build"
    return Check("torch", True, f"{version}, {build}")


def _gpus() -> list[Check]:
    if not gpus():
        return [
            Check(
                "GPU",
                False,
                f"none; the CPU is {cpu().name}",
                "A speed score of CUDA candidates needs an NVIDIA GPU with its driver.",
            )
        ]
    usable = bool(torch_cuda())
    advice = "" if usable else "Install a CUDA build of PyTorch."
    return [
        Check(
            f"GPU {gpu.index}",
            usable,
            f"{gpu.name}, {gpu.architecture}, {gpu.memory_bytes / 2**30:.0f} GiB, "
            f"driver {gpu.driver}",
            advice,
        )
        for gpu in gpus()
    ]


def _cpp() -> Check:
    compiler = cxx()
    path = shutil.which(compiler)
    if path is None:
        return Check("C++ compiler", False, f"no {compiler}", "Install g++ or clang++.")
    return Check("C++ compiler", True, _first_line([path, "--version"]))


def _nvcc() -> Check:
    path = nvcc()
    if path is None:
        advice = "Install the CUDA toolkit (or the nvidia-cuda-nvcc package) and put nvcc on PATH."
        return Check("nvcc", False, "none: CUDA candidates are built for no GPU", advice)
    lines = _output([path, "--version"]).splitlines()
    release = next((row.strip() for row in lines if "release" in row), "of unknown version")
    return Check("nvcc", True, f"{release}, at {path}")


def _fast_builds() -> Check:
    from harness.build.fast.preparation import Preparation

    settings = Settings()
    if not settings.fast_builds:
        advice = "Unset KERNEL_HARNESS_FAST_BUILDS to build with prepared headers."
        return Check("fast builds", False, "off, the settings say so", advice)
    if torch_version() == "none":
        return Check("fast builds", False, "there is no torch to prepare the headers of")
    gpu = gpus()[0] if gpus() and torch_cuda() else None
    found = Preparation(settings.prepared_dir, architectures_of((gpu,))).found()
    if not found:
        cost = "the first build takes half a minute more, and 0.2 GB for each set of flags"
        return Check("fast builds", True, f"not prepared yet ({cost})")
    unusable = [f"{name}: {v.unusable}" for name, v in found.items() if v.unusable]
    if unusable:
        return Check("fast builds", False, f"built the stock way: {'; '.join(unusable)[:500]}")
    size = sum(f.stat().st_size for f in settings.prepared_dir.rglob("*") if f.is_file()) / 2**30
    where = f"in {settings.prepared_dir}, {size:.1f} GiB with all that was ever prepared"
    return Check("fast builds", True, f"prepared for {', '.join(found)} {where}")


def _emulated() -> Check:
    from harness.emulation.preparation import find

    if why := no_emulation():
        return Check("emulated device", False, why)
    prepared = find(Settings().prepared_dir)
    says = "a CUDA device on the CPU, " + (
        f"prepared in {prepared.directory}"
        if prepared
        else "not prepared yet (its first use takes about a minute more)"
    )
    return Check("emulated device", True, says)


def _sandbox() -> Check:
    from harness.sandbox import Level, available, explain

    level = available()
    sentences = explain()
    return Check(
        "sandbox",
        level is Level.NAMESPACES,
        sentences[0] if sentences else str(level),
        " ".join(sentences[1:]),
    )


def _cache() -> Check:
    folder = Settings().cache_dir
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 2**30
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20
    good = os.access(existing, os.W_OK) and free > 2
    advice = "" if good else "Point KERNEL_HARNESS_CACHE_DIR to a folder with room."
    return Check("cache", good, f"{folder}, {size:.0f} MiB used, {free:.0f} GiB free", advice)


def _first_line(command: list[str]) -> str:
    output = _output(command).splitlines()
    return output[0] if output else Path(command[0]).name


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
