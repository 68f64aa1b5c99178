"""Which devices this host has, without torch: GPUs, the CPU, and the emulated one.

Does not: touch a device, or hold one (see ``lease``).
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UsageError
from harness.records import Device, DeviceKind


@dataclass(frozen=True)
class Gpu:
    """One GPU, as the driver describes it."""

    index: int
    name: str
    uuid: str
    driver: str
    capability: tuple[int, int]
    memory_bytes: int

    @property
    def architecture(self) -> str:
        """As the compiler names it: ``sm_90``."""
        return f"sm_{self.capability[0]}{self.capability[1]}"


@cache
def gpus() -> tuple[Gpu, ...]:
    """Every GPU the driver shows; none where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, or a driver that does not answer
        return ()
    found = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        found.append(
            Gpu(
                index,
                _text(pynvml.nvmlDeviceGetName(handle)),
                _text(pynvml.nvmlDeviceGetUUID(handle)),
                _text(pynvml.nvmlSystemGetDriverVersion()),
                tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
                int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            )
        )
    pynvml.nvmlShutdown()
    return tuple(found)


def torch_version() -> str:
    """The installed torch's version, local part included, without importing it."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return "none"


@cache
def torch_cuda() -> str:
    """The CUDA version torch was built with, empty for a CPU build, without importing it."""
    import importlib.util

    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return ""
    text = (Path(found.origin).parent / "version.py").read_text()
    for line in text.splitlines():
        if line.startswith("cuda"):
            value = line.split("=")[-1].strip().strip("'\"")
            return "" if value == "None" else value
    return ""


def choose(wanted: str) -> tuple[Device, Gpu | None]:
    """The device called ``auto``, ``emulated``, ``cpu``, ``cuda`` or ``cuda:N``.

    ``auto`` is a GPU where there is one, else the emulated device, else the CPU.

    Raises:
        UsageError: there is no such device here, and what there is.
    """
    kind, _, number = wanted.partition(":")
    usable = gpus() if torch_cuda() else ()
    if wanted == "auto":
        kind = "cuda" if usable else "cpu" if no_emulation() else "emulated"
    if kind == "cpu":
        return cpu(), None
    if kind == "emulated" and not number:
        if why := no_emulation():
            raise UsageError(f"there can be no emulated device here: {why}")
        return emulated(), None
    if kind != "cuda" or (number and not number.isdecimal()):
        raise UsageError(
            f"there is no device {wanted!r}; choose auto, emulated, cpu, cuda or cuda:N"
        )
    index = int(number or 0)
    if index >= len(usable):
        why = (
            f"this host has {len(usable)} usable GPU(s)"
            if gpus() or torch_cuda()
            else "this host has no NVIDIA driver"
        )
        if gpus() and not torch_cuda():
            why = "the installed torch is a CPU build"
        raise UsageError(f"device {wanted} cannot be used: {why}")
    return cuda(usable[index]), usable[index]


def architectures(gpu: Gpu | None) -> str:
    """What is compiled for, as torch wants it; a machine without a GPU compiles for Hopper."""
    major, minor = gpu.capability if gpu else (9, 0)
    return f"{major}.{minor}"


def cuda(gpu: Gpu) -> Device:
    """The record of a GPU."""
    return Device(
        kind=DeviceKind.CUDA,
        name=gpu.name,
        index=gpu.index,
        driver=gpu.driver,
        torch=torch_version(),
        cuda=torch_cuda(),
        architecture=gpu.architecture,
    )


@cache
def cpu() -> Device:
    """The record of the host's processor."""
    return Device(
        kind=DeviceKind.CPU,
        name=_processor(),
        torch=torch_version(),
        cuda=torch_cuda(),
        architecture=platform.machine(),
    )


@cache
def emulated() -> Device:
    """The record of the CUDA device that is emulated on the host's processor."""
    return Device(
        kind=DeviceKind.EMULATED,
        name=f"emulated on {_processor()}",
        torch=torch_version(),
        architecture="sm_90",
    )


@cache
def no_emulation() -> str | None:
    """Why there can be no emulated device here; ``None`` where there can be one."""
    compiler = cxx()
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"it runs on Linux x86-64, and this is {platform.system()} {platform.machine()}"
    if torch_cuda():
        return "the installed torch is a CUDA build, which has a cuda device of its own"
    if shutil.which(compiler) is None:
        return f"it needs GCC, and there is no {compiler!r} on PATH"
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    if "Free Software Foundation" not in said.stdout:
        return f"it needs GCC, and {compiler!r} is another compiler (CXX names one)"
    return None


def cxx() -> str:
    """The C++ compiler's name: ``CXX``, or ``c++``."""
    return os.environ.get("CXX") or "c++"


def nvcc() -> str | None:
    """The CUDA compiler's path, if it is on PATH or where CUDA is usually put."""
    usual = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.exists() else None)


@contextlib.contextmanager
def lease(gpu: Gpu | None, folder: Path, *, seconds: float = -1) -> Iterator[None]:
    """Hold a GPU exclusively among all harnesses of this host (the CPU is not held).

    Raises:
        UsageError: another harness held it for ``seconds`` (negative waits for ever).
    """
    if gpu is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{gpu.uuid}.lease")
    try:
        lock.acquire(timeout=seconds)
    except Timeout as error:
        raise UsageError(f"another harness holds {gpu.name} ({gpu.index})") from error
    except RuntimeError as error:  # waiting for a lock of one's own would never end
        raise UsageError(
            f"this process holds {gpu.name} ({gpu.index}) in another Grader; close that one first"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
