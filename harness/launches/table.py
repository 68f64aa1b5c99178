"""The memory in which a process's launches are noted: one row per kernel and file it came from.

The oracle makes it and reads it; a worker hands its descriptor to the library that
``native/launches.cpp`` becomes, which has the same layout. A candidate can write there if it goes
to the trouble, so what stands in it is read as text of unknown make.

Does not: judge.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntFlag

MADE_AT_RUN_TIME = "loaded by "
"""Comes before the loader's path in the origin of code that lies in no file."""

_ROWS, _ROW_BYTES, _HEAD_BYTES = 1000, 512, 512
_ORIGIN_BYTES, _KERNEL_BYTES, _OWN_BYTES = 176, 304, 496
_HEAD = struct.Struct("<IIQ")
_COUNT, _COUNT_AT = struct.Struct("<Q"), _ORIGIN_BYTES + _KERNEL_BYTES
_ROW = struct.Struct(f"<{_ORIGIN_BYTES}s{_KERNEL_BYTES}sQQQQ")


class Wish(IntFlag):
    """What the oracle asks of the process."""

    NOTHING = 0
    COUNTED = 1
    """Note every launch; the others mean nothing without this."""
    TIMED = 2
    """Time each launch by events of the device."""
    WITHOUT_OWN = 4
    """Leave out launches of kernels that come from the candidate's own files."""


@dataclass(frozen=True)
class Row:
    """One kernel of one origin, since the process began to note."""

    origin: str
    """Path of the file that holds its code; empty where that is unknown."""
    kernel: str
    """Its mangled name."""
    count: int
    """Launches that were passed on."""
    left_out: int
    """Launches that were left out on request."""
    nanoseconds: int
    """Of the device, in launches that were timed."""


class LaunchTable:
    """The oracle's end."""

    def __init__(self, own: str) -> None:
        """With ``own``, how paths of the candidate's own files begin."""
        size = _HEAD_BYTES + _ROWS * _ROW_BYTES
        self.fd = os.memfd_create("launches", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self._page = mmap.mmap(self.fd, size)
        prefix = own.encode()
        if len(prefix) >= _OWN_BYTES:
            raise ValueError(f"the path {own!r} is too long")
        self._page[_HEAD.size : _HEAD.size + len(prefix)] = prefix
        self._own = own

    def wish(self, wish: Wish) -> None:
        """Ask something of the process, from its next launch on."""
        self._page[:4] = struct.pack("<I", wish)

    def rows(self) -> list[Row]:
        """What was noted so far."""
        _, used, _ = _HEAD.unpack_from(self._page)
        return [self._row(i) for i in range(min(used, _ROWS))]

    @property
    def launched(self) -> int:
        """Launches of all kernels that have a row, without reading whose they are."""
        _, used, _ = _HEAD.unpack_from(self._page)
        rows = range(min(used, _ROWS))
        return sum(_COUNT.unpack_from(self._page, _place(i) + _COUNT_AT)[0] for i in rows)

    @property
    def overflow(self) -> int:
        """Launches of kernels for which there was no row left."""
        return int(_HEAD.unpack_from(self._page)[2])

    def is_own(self, row: Row) -> bool:
        """Whether a kernel comes from a file of the candidate's, or was made by code of one."""
        return row.origin.removeprefix(MADE_AT_RUN_TIME).startswith(self._own)

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()
        os.close(self.fd)

    def _row(self, index: int) -> Row:
        fields = _ROW.unpack_from(self._page, _place(index))
        origin, kernel, count, left_out, nanoseconds, _ = fields
        return Row(_text(origin), _text(kernel), count, left_out, nanoseconds)


def note(fd: int) -> None:
    """Note this process's launches from now on in the table behind ``fd``, which is closed.

    Raises:
        RuntimeError: the table cannot be mapped.
    """
    failed = _library().kernel_harness_note_launches(fd)
    os.close(fd)
    if failed:
        raise RuntimeError("the table of launches cannot be mapped")


def is_loaded() -> bool:
    """Whether this process was started with the library."""
    return hasattr(_library(), "kernel_harness_note_launches")


def settle() -> None:
    """Wait for launches that were timed, and note how long they took."""
    _library().kernel_harness_settle_launches()


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # what was preloaded is among the process's own symbols


def _place(index: int) -> int:
    return _HEAD_BYTES + index * _ROW_BYTES


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
