"""Prepares this installation once: builds the device library, precompiles torch's headers.

What comes out lies in one folder named by everything that it depends on (torch, Python,
compiler, processor, our own sources), made complete in a temporary folder and renamed
into place: two processes may prepare at once, and a change of any of them prepares anew.

Does not: build candidates (see ``harness.build``), or import torch.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import preparing
from harness.devices import cxx, no_emulation
from harness.errors import UsageError
from harness.preparing import torch_folder
from harness.version import __version__

NATIVE = Path(__file__).parent / "native"
LIBRARY = "libkernel_harness_device.so"
PREFIXES = ("declarations.h", "code.h")
"""The headers of ``native/slim`` that are precompiled; the others are parsed each time."""

_DEVICE_FLAGS = ("-std=c++20", "-O2", "-g1", "-fPIC", "-w", "-U_FORTIFY_SOURCE")
KERNEL_FLAGS = (
    "-std=c++20",
    "-O2",
    "-g1",  # line tables: a report names the source line
    "-fPIC",
    "-w",
    "-fsanitize=bounds,alignment",  # answered by native/device/sanitizer.cpp
    "-ftrivial-auto-var-init=pattern",  # what nobody has set is no zero
    "-ffp-contract=fast",  # as nvcc contracts by default
    "-fno-strict-aliasing",  # a float4 read through a float pointer is everyday CUDA
    # torch's own, for every CUDA unit
    "-D__CUDA_NO_HALF_OPERATORS__",
    "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__",
)
DECLARATION_FLAGS = ("-std=c++20", "-O0", "-fPIC", "-w")


@dataclass(frozen=True)
class Prepared:
    """A prepared installation."""

    directory: Path

    @property
    def library(self) -> Path:
        """The device, to be loaded before torch."""
        return self.directory / LIBRARY

    @property
    def key(self) -> str:
        """Changes with everything that decides what a build gives."""
        return self.directory.name


def find(root: Path) -> Prepared | None:
    """What was prepared below ``root`` for this installation, if it was."""
    prepared = Prepared(root / key())
    return prepared if prepared.library.exists() else None


def prepare(root: Path) -> Prepared:
    """Prepare this installation below ``root``, unless that was done before.

    Takes about a minute of two cores and 0.7 GB of disk.

    Raises:
        UsageError: there can be no emulated device here.
        PreparationFault: a compiler failed on our own sources.
    """
    if why := no_emulation():
        raise UsageError(f"there can be no emulated device here: {why}")
    return Prepared(preparing.once(root, key(), _make))


def include_flags() -> list[str]:
    """Where torch's, Python's and our own headers lie; ours stand in for CUDA's."""
    torch = torch_folder() / "include"
    system = [torch, torch / "torch" / "csrc" / "api" / "include", sysconfig.get_path("include")]
    return [f"-I{NATIVE / 'include'}", *(f"-isystem{path}" for path in system)]


def torch_libraries() -> Path:
    """Where torch's libraries lie."""
    return torch_folder() / "lib"


def machine_flags() -> list[str]:
    """Instructions that make fused multiply-adds and half floats fast, where there are any."""
    flags = {"fma": "-mfma", "f16c": "-mf16c", "avx2": "-mavx2"}
    return [flag for feature, flag in flags.items() if feature in _processor_features()]


@cache
def key() -> str:
    """Names everything that the preparation depends on."""
    return preparing.digest(
        (p for p in NATIVE.rglob("*") if p.is_file()),
        NATIVE,
        __version__,
        preparing.torch_build(),
        str(NATIVE),
        sysconfig.get_path("include"),
        preparing.version_of(cxx()),
        *machine_flags(),
        *KERNEL_FLAGS,
        *DECLARATION_FLAGS,
    )


def _make(directory: Path) -> None:
    for header in (NATIVE / "slim").glob("*.h"):
        shutil.copy(header, directory)
    jobs = [_device(directory), *(_precompiled(directory, name) for name in PREFIXES)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for _ in pool.map(preparing.run, jobs):
            pass
    objects = sorted(map(str, directory.glob("*.o")))
    torch = torch_libraries()
    link = ["-shared", "-o", str(directory / LIBRARY), *objects, f"-L{torch}", "-ltorch_cpu"]
    preparing.run([cxx(), *link, "-lc10", f"-Wl,-rpath,{torch},-soname,{LIBRARY},-z,defs", "-lrt"])
    for path in objects:
        Path(path).unlink()


def _device(directory: Path) -> list[str]:
    """Compile the device's sources; one command, since all but one file are small."""
    sources = sorted(map(str, (NATIVE / "device").glob("*.cpp")))
    includes = [*include_flags(), f"-I{NATIVE / 'device'}"]
    compile_all = " && ".join(
        " ".join([cxx(), *_DEVICE_FLAGS, *includes, "-c", s, "-o", f"{Path(s).stem}.o"])
        for s in sources
    )
    return ["sh", "-c", f"cd {directory} && {compile_all}"]


def _precompiled(directory: Path, name: str) -> list[str]:
    flags = DECLARATION_FLAGS if name == "declarations.h" else (*KERNEL_FLAGS, *machine_flags())
    output = str(directory / f"{name}.gch")
    includes = [f"-I{NATIVE / 'slim'}", *include_flags()]
    source = str(directory / name)
    return [cxx(), *flags, *includes, "-x", "c++-header", source, "-o", output]


@cache
def _processor_features() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()
