"""Which devices this host has, asked of the driver (NVML), without torch.

Does not: touch a device, or hold one (see ``lease``).
"""

from __future__ import annotations

import contextlib
import platform
import shutil
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
    """The device called ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: there is no such device here, and what there is.
    """
    kind, _, number = wanted.partition(":")
    usable = gpus() if torch_cuda() else ()
    if kind == "auto":
        kind = "cuda" if usable else "cpu"
    if kind == "cpu":
        return cpu(), None
    if kind != "cuda" or (number and not number.isdecimal()):
        raise UsageError(f"there is no device {wanted!r}; choose auto, cpu, cuda or cuda:N")
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
