"""Memory that the oracle owns and a worker maps: CUDA IPC on a GPU, a memfd on the CPU.

An arena is one flat run of bytes. A ``Plan`` lays tensors into it, each between
guard bands; a ``Slot`` says where one tensor lies and crosses the wire as JSON.
The oracle fills, poisons and reads; the worker reads its inputs and writes its
answers, and can reach nothing else.

Does not: decide what is written, or trust anything found in it.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import mmap
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

GUARD = 512
"""Bytes of poison before and after every tensor; also its alignment."""
POISON = 0xFF
"""The poison byte: four or eight of them are a NaN in every float format, -1 as an integer."""


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies in an arena."""

    offset: int
    """First byte."""
    dtype: str
    """``float32`` …"""
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    """In elements; zero strides make an expanded tensor."""

    @property
    def extent(self) -> int:
        """Bytes from the first element to the end of the last."""
        if 0 in self.shape:
            return 0
        last = sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return (last + 1) * dtype_of(self.dtype).itemsize

    def to_wire(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Self:
        """From JSON."""
        return cls(wire["offset"], wire["dtype"], tuple(wire["shape"]), tuple(wire["stride"]))


def dtype_of(name: str) -> torch.dtype:
    """The dtype called ``name``.

    Raises:
        ValueError: there is none.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"no dtype is called {name!r}")
    return found


def name_of(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides, in elements."""
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(1, size)
    return tuple(reversed(stride))


@dataclass
class Plan:
    """Lays slots one after the other, a guard band around each."""

    size: int = GUARD
    slots: list[Slot] = field(default_factory=list)

    def add(
        self,
        dtype: torch.dtype,
        shape: tuple[int, ...],
        stride: tuple[int, ...] | None = None,
        *,
        shift: int = 0,
    ) -> Slot:
        """Reserve room; ``shift`` moves the tensor that many elements off its alignment."""
        stride = contiguous_stride(shape) if stride is None else stride
        slot = Slot(self.size + shift * dtype.itemsize, name_of(dtype), shape, stride)
        end = slot.offset + slot.extent + GUARD
        self.size = -(-end // GUARD) * GUARD
        self.slots.append(slot)
        return slot

    def guards(self) -> list[tuple[int, int]]:
        """The byte ranges that belong to no slot."""
        ranges, start = [], 0
        for slot in sorted(self.slots, key=lambda s: s.offset):
            ranges.append((start, slot.offset))
            start = slot.offset + slot.extent
        return [*ranges, (start, self.size)]


class Arena:
    """A mapped arena, as a flat tensor of bytes."""

    def __init__(self, flat: torch.Tensor, keep: object = None) -> None:
        self._flat = flat
        self._keep = keep

    @property
    def size(self) -> int:
        """Bytes."""
        return self._flat.numel()

    def view(self, slot: Slot) -> torch.Tensor:
        """The tensor at ``slot``.

        Raises:
            ValueError: the slot does not lie within the arena.
        """
        dtype = dtype_of(slot.dtype)
        end = slot.offset + slot.extent
        if slot.offset < 0 or end > self.size or min(slot.stride, default=0) < 0:
            raise ValueError("a slot outside the arena")
        room = self._flat[slot.offset : slot.offset + slot.extent].view(dtype)
        return room.as_strided(slot.shape, slot.stride) if slot.extent else room.view(slot.shape)

    def bytes(self, start: int, end: int) -> torch.Tensor:
        """The bytes from ``start`` to ``end``."""
        return self._flat[start:end]

    def poison(self, slot: Slot) -> None:
        """Overwrite one slot with poison."""
        self._flat[slot.offset : slot.offset + slot.extent].fill_(POISON)

    def poison_all(self, size: int, start: int = 0) -> None:
        """Overwrite the bytes from ``start`` to ``size`` with poison."""
        self._flat[start:size].fill_(POISON)

    def unmap(self) -> None:
        """Let go of the memory."""
        self._flat = torch.empty(0, dtype=torch.uint8)
        self._keep = None

    def is_poison(self, start: int, end: int) -> bool:
        """Whether every byte from ``start`` to ``end`` is still poison."""
        return bool((self._flat[start:end] == POISON).all())


class MappedCudaArena(Arena):
    """A worker's end of an arena in device memory."""

    def __init__(self, pointer: int, size: int) -> None:
        super().__init__(_device_bytes(pointer, size))
        self._pointer = pointer

    def unmap(self) -> None:
        """Unmap it; tensors that still look into it must not be used any more."""
        super().unmap()
        _check(_cudart().cudaIpcCloseMemHandle(ctypes.c_void_p(self._pointer)))


class HostArena(Arena):
    """The oracle's end of an arena in shared host memory."""

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        # A worker that could cut it short would have the oracle die at its next read.
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        flat, keep = _map_host(self.fd, size)
        super().__init__(flat, keep)

    def handle(self) -> dict[str, Any]:
        """What a worker needs to map it; the descriptor travels beside the message."""
        return {"kind": "host", "size": self.size}

    def descriptors(self) -> tuple[int, ...]:
        """The descriptors to send with the handle."""
        return (self.fd,)

    def close(self) -> None:
        """Give the descriptor back; the memory goes with its last mapping."""
        os.close(self.fd)


_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


class CudaArena(Arena):
    """The oracle's end of an arena in device memory (``cudaMalloc``, exported by CUDA IPC)."""

    def __init__(self, size: int) -> None:
        self._pointer = ctypes.c_void_p()
        _check(_cudart().cudaMalloc(ctypes.byref(self._pointer), ctypes.c_size_t(size)))
        super().__init__(_device_bytes(int(self._pointer.value or 0), size))

    def handle(self) -> dict[str, Any]:
        """What a worker needs to map it."""
        handle = _IpcHandle()
        _check(_cudart().cudaIpcGetMemHandle(ctypes.byref(handle), self._pointer))
        return {"kind": "cuda", "size": self.size, "ipc": bytes(handle).hex()}

    def descriptors(self) -> tuple[int, ...]:
        """None: the handle says all."""
        return ()

    def close(self) -> None:
        """Free the device memory."""
        self._flat = torch.empty(0, dtype=torch.uint8)
        _check(_cudart().cudaFree(self._pointer))


def allocate(size: int, *, cuda: bool) -> HostArena | CudaArena:
    """A new arena of ``size`` bytes on the current device."""
    return CudaArena(size) if cuda else HostArena(size)


def attach(handle: dict[str, Any], fds: list[int]) -> Arena:
    """The worker's end of an arena.

    Raises:
        ValueError: the handle is of no known kind.
        RuntimeError: the device refuses the handle.
    """
    size = int(handle["size"])
    if handle["kind"] == "host":
        flat, keep = _map_host(fds[0], size)
        return Arena(flat, keep)
    if handle["kind"] != "cuda":
        raise ValueError(f"an arena of unknown kind {handle['kind']!r}")
    torch.cuda.init()
    torch.cuda.current_stream()  # makes the primary context current on this thread
    torch.empty(1, device="cuda")
    pointer = ctypes.c_void_p()
    ipc = _IpcHandle.from_buffer_copy(bytes.fromhex(handle["ipc"]))
    lazy_peer_access = 1
    _check(
        _cudart().cudaIpcOpenMemHandle(ctypes.byref(pointer), ipc, ctypes.c_uint(lazy_peer_access))
    )
    return MappedCudaArena(int(pointer.value or 0), size)


def _map_host(fd: int, size: int) -> tuple[torch.Tensor, mmap.mmap]:
    memory = mmap.mmap(fd, size)
    return torch.frombuffer(memory, dtype=torch.uint8), memory


class _IpcHandle(ctypes.Structure):
    """``cudaIpcMemHandle_t``: 64 opaque bytes, passed by value."""

    _fields_ = (("reserved", ctypes.c_char * 64),)

    def __bytes__(self) -> bytes:
        return ctypes.string_at(ctypes.addressof(self), ctypes.sizeof(self))


class _DeviceBytes:
    """Lets torch see a raw device pointer, by the CUDA array interface (version 3)."""

    def __init__(self, pointer: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (pointer, False),
            "version": 3,
        }


def _device_bytes(pointer: int, size: int) -> torch.Tensor:
    return torch.as_tensor(_DeviceBytes(pointer, size), device="cuda")


@functools.cache
def _cudart() -> ctypes.CDLL:
    """The CUDA runtime that torch itself has loaded, so that both share one state."""
    torch.cuda.init()
    maps = Path("/proc/self/maps").read_text()
    found = re.search(r"(/\S*libcudart[^\s/]*\.so[^\s/]*)", maps)
    return ctypes.CDLL(found.group(1) if found else "libcudart.so")


def last_error() -> str | None:
    """The error that the CUDA runtime holds for this thread, which this call clears."""
    code = _cudart().cudaGetLastError()
    return _words(code) if code else None


def reset_persisting_cache() -> None:
    """Have the L2 cache give up the lines that were marked to persist."""
    _cudart().cudaCtxResetPersistingL2Cache()


def _check(code: int) -> None:
    if code == _OUT_OF_MEMORY:
        raise torch.OutOfMemoryError(f"CUDA error {code}: {_words(code)}")
    if code:
        raise RuntimeError(f"CUDA error {code}: {_words(code)}")


def _words(code: int) -> str:
    describe = _cudart().cudaGetErrorString
    describe.restype = ctypes.c_char_p
    return str(describe(code).decode())
