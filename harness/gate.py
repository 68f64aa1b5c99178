"""A gate between two processes: a worker's stream waits at it, and the oracle opens it.

The gate is a page of memory that both map. What stands behind it is a key: inputs lie in the
arena as ciphers, and become what they are only once the key is there. A worker queues all its
work behind the gate, so that issuing it costs no time that is measured, and nothing can be computed
of an input before the oracle's own clock has started.

On a GPU the stream waits by itself (``cuStreamWaitValue32`` on registered host memory); a worker
on the CPU, or under a driver that cannot do that, reads the key when it is asked to run, so there
the gate has to be open before.

Does not: keep a secret for longer than a call takes; the key is one block of random words, and
every block of an input is combined with it (exclusive or).
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
import time
from collections.abc import Callable

import torch

KEY_BYTES = 512
"""Length of a key, and of an arena's guard bands: whole blocks fit over every tensor."""
_KEY_AT = 1024
_WORDS = KEY_BYTES // 8
_READY_AT, _ISSUED_AT, _DONE_AT = 448, 512, 576
_PAGE = 4096
_WORD = struct.Struct("<I")
_WRAP = 1 << 30
_POLL_SECONDS = 5e-6
_SPIN_SECONDS = 0.05
"""How long a wait keeps a core busy; a sleep takes a twentieth of a millisecond at least."""


class Gate:
    """The oracle's end."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("gate", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, _PAGE)
        self._page = mmap.mmap(self.fd, _PAGE)
        self._turn = 0

    def shut(self) -> tuple[int, bytes]:
        """Shut it for the next call: the number that opens it, and the key that will be there."""
        self._turn = self._turn % _WRAP + 1
        for at in (_READY_AT, _ISSUED_AT, _DONE_AT):
            self._page[at : at + 4] = _WORD.pack(0)
        self._page[:4] = _WORD.pack(0)
        self._page[_KEY_AT : _KEY_AT + KEY_BYTES] = os.urandom(KEY_BYTES)
        return self._turn, os.urandom(KEY_BYTES)

    def wait_until_ready(self, seconds: float, over: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the worker says that it begins to queue; false where that took too long.

        ``over`` says whether there is nothing to wait for any more.
        """
        return self._wait(_READY_AT, seconds, over)

    def wait_until_issued(self, seconds: float) -> bool:
        """The same until it says that everything is queued."""
        return self._wait(_ISSUED_AT, seconds)

    def wait_until_done(self, seconds: float) -> bool:
        """The same until it says that the device has done everything."""
        return self._wait(_DONE_AT, seconds)

    def _wait(self, at: int, seconds: float, over: Callable[[], bool] = lambda: False) -> bool:
        begun = time.perf_counter()
        number = _WORD.pack(self._turn)
        while self._page[at : at + 4] != number:
            waited = time.perf_counter() - begun
            if waited > seconds or over():
                return False
            if waited > _SPIN_SECONDS:
                time.sleep(_POLL_SECONDS)
        return True

    def open(self, key: bytes) -> None:
        """Put the key there, then open."""
        self._page[_KEY_AT : _KEY_AT + KEY_BYTES] = key
        self._page[:4] = _WORD.pack(self._turn)

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()
        os.close(self.fd)


class MappedGate:
    """A worker's end."""

    def __init__(self, fd: int, device: torch.device, *, waits: bool) -> None:
        """Of the page behind ``fd``, which it closes; ``waits`` where streams can wait at it.

        Raises:
            RuntimeError: the driver cannot have a stream wait for host memory.
        """
        self._page = mmap.mmap(fd, _PAGE)
        os.close(fd)
        self._key = torch.empty(_WORDS, dtype=torch.int64, device=device)
        self._waits = waits
        self._anchor = ctypes.c_char.from_buffer(self._page)
        if waits:
            self._address = _registered(ctypes.addressof(self._anchor))

    def queue_wait(self, number: int) -> None:
        """Have the current stream wait until the gate is open, and then fetch the key.

        Where streams cannot wait the gate has to be open.
        """
        if not self._waits:
            key = self._page[_KEY_AT : _KEY_AT + KEY_BYTES]
            self._key.copy_(tensor_of(key, self._key.device))
            return
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        at_least = 0
        _check(
            _driver().cuStreamWaitValue32_v2(
                stream, ctypes.c_uint64(self._address), ctypes.c_uint32(number), at_least
            )
        )
        _check(
            _driver().cuMemcpyHtoDAsync_v2(
                ctypes.c_uint64(self._key.data_ptr()),
                ctypes.c_void_p(ctypes.addressof(self._anchor) + _KEY_AT),
                ctypes.c_size_t(KEY_BYTES),
                stream,
            )
        )

    def say_ready(self, number: int) -> None:
        """Tell the oracle that the device is idle, and that what is timed is queued from now on."""
        self._say(_READY_AT, number)

    def say_issued(self, number: int) -> None:
        """Tell the oracle that everything is queued."""
        self._say(_ISSUED_AT, number)

    def say_done(self, number: int) -> None:
        """Tell the oracle that the device has done it."""
        self._say(_DONE_AT, number)

    def _say(self, at: int, number: int) -> None:
        self._page[at : at + 4] = _WORD.pack(number)

    def decipher(self, flat: torch.Tensor) -> None:
        """Turn a cipher into what it stands for, in place.

        Args:
            flat: Bytes of the arena, a multiple of ``KEY_BYTES``.
        """
        combine(flat, self._key)

    def close(self) -> None:
        """Give the page back; nothing may be waiting any more."""
        if self._waits:
            _check(_driver().cuMemHostUnregister(ctypes.c_void_p(ctypes.addressof(self._anchor))))
        del self._anchor
        self._page.close()


@functools.cache
def streams_can_wait() -> bool:
    """Whether the driver of this process's GPU has a stream wait for host memory; tried once."""
    gate = Gate()
    try:
        mapped = MappedGate(os.dup(gate.fd), torch.device("cuda:0"), waits=True)
        number, key = gate.shut()
        gate.open(key)
        mapped.queue_wait(number)
        torch.cuda.synchronize()
        mapped.close()
    except (RuntimeError, OSError):
        return False
    finally:
        gate.close()
    return True


def combine(flat: torch.Tensor, key: torch.Tensor) -> None:
    """Combine bytes with a key, in place; twice gives them back.

    Args:
        flat: uint8, its length a multiple of ``KEY_BYTES``.
        key: int64, ``KEY_BYTES`` long, on the same device.
    """
    blocks = flat.view(torch.int64).view(-1, _WORDS)
    torch.bitwise_xor(blocks, key, out=blocks)


def tensor_of(key: bytes, device: torch.device) -> torch.Tensor:
    """A key as a tensor."""
    return torch.frombuffer(bytearray(key), dtype=torch.int64).to(device)


def _registered(address: int) -> int:
    """The address on the device of the page that lies at ``address``.

    Raises:
        RuntimeError: the driver cannot have a stream wait for host memory.
    """
    driver = _driver()
    portable_and_mapped = 0x01 | 0x02
    _check(
        driver.cuMemHostRegister_v2(
            ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), ctypes.c_uint(portable_and_mapped)
        )
    )
    found = ctypes.c_uint64()
    _check(driver.cuMemHostGetDevicePointer_v2(ctypes.byref(found), ctypes.c_void_p(address), 0))
    return int(found.value)


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _check(code: int) -> None:
    if code:
        raise RuntimeError(f"the driver refuses the gate: CUDA error {code}")
