"""The device library as Python sees it: schedules, reports, launches, streams.

The library is loaded once per process, before torch, by the fork server of emulated
workers; everything here speaks to that one copy through ctypes.

Does not: build the library (see ``preparation``), or import torch.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

NOT_EMULATED = "not emulated: "
"""How the text of an exception begins that stands for the verdict ``unsupported``."""
_ERRORS = {
    1: "invalid argument",
    9: "invalid configuration argument",
    700: "an illegal memory access was encountered",
    702: "the launch timed out and was terminated",
    710: "device-side assert triggered",
    716: "misaligned address",
    719: "unspecified launch failure",
    801: "operation not supported",
}
_MOST_REPORTS = 256
_MOST_NAMES = 512
_loaded: ctypes.CDLL | None = None


class Order(IntEnum):
    """In which order the threads of a block, or the blocks of a grid, are run."""

    FORWARD = 0
    REVERSE = 1
    SHUFFLED = 2


@dataclass(frozen=True)
class Report:
    """One thing that the device saw, and where."""

    kind: str
    """``out_of_bounds``, ``misaligned``, ``deadlock`` …"""
    text: str
    """What was seen."""
    kernel: str = ""
    block: tuple[int, ...] = ()
    thread: tuple[int, ...] = ()
    """Indices of the block and of the thread in it; empty outside of kernels."""
    file: str = ""
    line: int = 0
    column: int = 0
    """In the translation unit; 0 where it is not known."""
    other_line: int = 0
    """A second place that the text speaks of."""
    times: int = 1
    """How often it was seen at this place."""

    def to_wire(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class _RawReport(ctypes.Structure):
    """``emulated::Report`` of native/device/reports.h."""

    _fields_ = (
        ("kind", ctypes.c_char * 32),
        ("kernel", ctypes.c_char * 128),
        ("block", ctypes.c_uint32 * 3),
        ("thread", ctypes.c_uint32 * 3),
        ("in_kernel", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("file", ctypes.c_char * 128),
        ("line", ctypes.c_int32),
        ("column", ctypes.c_int32),
        ("other_line", ctypes.c_int32),
        ("times", ctypes.c_uint32),
        ("text", ctypes.c_char * 384),
    )


class _RawCount(ctypes.Structure):
    """``Count`` of native/device/control.cpp."""

    _fields_ = (("name", ctypes.c_char * 128), ("count", ctypes.c_uint64))


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def load(library: Path) -> None:
    """Load the device into this process; torch must not have been imported yet.

    Raises:
        OSError: it cannot be loaded.
    """
    global _loaded
    _loaded = found = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    for name in ("new_stream", "current_stream"):
        getattr(found, f"kernel_harness_{name}").restype = ctypes.c_void_p
    for name in ("live_bytes", "live_allocations"):
        getattr(found, f"kernel_harness_{name}").restype = ctypes.c_uint64


def is_loaded() -> bool:
    """Whether this process has the emulated device."""
    return _loaded is not None


def schedule(
    threads: Order, blocks: Order, seed: int, seconds: float, left_out: bool = False
) -> None:
    """Fix the order in which kernels run from now on, and how long they may run together.

    With ``left_out`` launches do nothing, to see whether results depend on them.
    """
    _library().kernel_harness_schedule(
        int(threads),
        int(blocks),
        ctypes.c_uint64(seed),
        ctypes.c_double(seconds),
        int(left_out),
    )


def take_reports() -> list[Report]:
    """What was seen since the last call, the first first."""
    raw = (_RawReport * _MOST_REPORTS)()
    count = _library().kernel_harness_reports(raw, _MOST_REPORTS)
    return [_read(raw[i]) for i in range(count)]


def take_launches() -> dict[str, int]:
    """How often each kernel was launched since the last call."""
    return _counts(_library().kernel_harness_launches)


def take_operators() -> dict[str, int]:
    """How often the device computed each operator of torch since the last call, in any thread."""
    return _counts(_library().kernel_harness_operators)


def _counts(ask: Any) -> dict[str, int]:
    raw = (_RawCount * _MOST_NAMES)()
    return {_text(raw[i].name): int(raw[i].count) for i in range(ask(raw, _MOST_NAMES))}


def last_error() -> str | None:
    """The error that a launch has left behind, in CUDA's words; clears it."""
    code = int(_library().kernel_harness_last_error())
    return _ERRORS.get(code, f"error {code}") if code else None


def produce_late(to: int, source: int, size: int) -> None:
    """Copy ``size`` bytes only when work on the current stream is reached (addresses)."""
    _library().kernel_harness_late(
        ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_uint64(size)
    )


def reached(stream: int) -> None:
    """A stream is waited for: what is late on it has come."""
    _library().kernel_harness_reached(ctypes.c_void_p(stream))


def synchronize() -> None:
    """Wait for the device."""
    _library().kernel_harness_synchronize()


def new_stream() -> int:
    """The handle of a new stream."""
    return int(_library().kernel_harness_new_stream() or 0)


def current_stream() -> int:
    """The handle of this thread's current stream; 0 is the default stream."""
    return int(_library().kernel_harness_current_stream() or 0)


def set_current_stream(handle: int) -> None:
    """Make a stream this thread's current one."""
    _library().kernel_harness_set_current_stream(ctypes.c_void_p(handle))


def allocated_bytes() -> int:
    """Bytes of the device that torch holds."""
    return int(_library().kernel_harness_live_bytes(0))


def candidate_allocations() -> int:
    """How many blocks of ``cudaMalloc`` the candidate has not freed."""
    return int(_library().kernel_harness_live_allocations(1))


def _library() -> ctypes.CDLL:
    if _loaded is None:
        raise RuntimeError("this process has no emulated device")
    return _loaded


def _read(raw: _RawReport) -> Report:
    file, line = _text(raw.file).rsplit("/", 1)[-1], int(raw.line)
    if not line and raw.address:
        file, line = _source_line(int(raw.address))
    inside = bool(raw.in_kernel)
    return Report(
        kind=_text(raw.kind),
        text=_text(raw.text),
        kernel=_text(raw.kernel),
        block=tuple(raw.block) if inside else (),
        thread=tuple(raw.thread) if inside else (),
        file=file,
        line=line,
        column=int(raw.column),
        other_line=int(raw.other_line),
        times=int(raw.times),
    )


def _source_line(address: int) -> tuple[str, int]:
    """File and line of an instruction, by the line table of the library that holds it."""
    info = _DlInfo()
    tool = shutil.which("addr2line")
    if tool is None or not ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info)):
        return "", 0
    path = (info.file or b"").decode()
    done = subprocess.run(
        [tool, "-i", "-e", path, hex(address - int(info.base or 0))],
        capture_output=True,
        text=True,
        check=False,
    )
    for row in done.stdout.splitlines():  # what was inlined first, then what it was inlined into
        file, _, line = row.split(" ")[0].rpartition(":")
        name = file.rsplit("/", 1)[-1]
        if line.isdecimal() and int(line) and name.endswith((".cu", ".cpp", ".cuh")):
            return name, int(line)
    return "", 0


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
