"""Makes ``torch.cuda`` of a CPU build answer for the emulated device.

The tensors themselves are the device library's business (native/device/backend.cpp);
this is the Python side: queries, streams, events, synchronisation.

Does not: pretend to a speed; what needs a real GPU (graphs, profilers) raises.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch

from harness.emulation import device

NAME = "emulated (sm_90 on the CPU)"
CAPABILITY = (9, 0)
_MEMORY = 16 << 30


class Properties:
    """What ``get_device_properties`` gives; the device library's own limits."""

    name = NAME
    major, minor = CAPABILITY
    total_memory = _MEMORY
    multi_processor_count = 132
    warp_size = 32
    max_threads_per_multi_processor = 2048
    max_threads_per_block = 1024
    regs_per_multiprocessor = 65536
    shared_memory_per_block = 48 << 10
    shared_memory_per_block_optin = 227 << 10
    shared_memory_per_multiprocessor = 228 << 10
    L2_cache_size = 50 << 20
    is_integrated = 0
    is_multi_gpu_board = 0


class Stream:
    """A stream: a handle, and nothing that runs behind it."""

    def __init__(
        self, device: Any = None, priority: int = 0, *, handle: int | None = None, **_: Any
    ) -> None:
        del device, priority
        self.cuda_stream = _new_stream() if handle is None else handle
        self.stream_id = self.cuda_stream
        self.device = torch.device("cuda", 0)
        self.device_index = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.cuda_stream == self.cuda_stream

    def __hash__(self) -> int:
        return hash(self.cuda_stream)

    def __enter__(self) -> Stream:
        self._before = device.current_stream()
        device.set_current_stream(self.cuda_stream)
        return self

    def __exit__(self, *_: object) -> None:
        device.set_current_stream(self._before)

    def synchronize(self) -> None:
        """Wait for the device: there is only one kind of lateness."""
        device.synchronize()

    def wait_stream(self, stream: Stream) -> None:
        """What is late on the other stream has come then."""
        device.reached(stream.cuda_stream)

    def wait_event(self, event: Event) -> None:
        """The same for the stream that recorded the event."""
        event.wait(self)

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event."""
        event = event or Event()
        event.record(self)
        return event

    def query(self) -> bool:
        """Whether everything is done: always."""
        return True


class Event:
    """An event; its times are the host's, and no measure of a GPU."""

    def __init__(self, enable_timing: bool = False, **_: Any) -> None:
        del enable_timing
        self._at = 0.0
        self._stream: int | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Note the time, and the stream."""
        self._stream = device.current_stream() if stream is None else stream.cuda_stream
        self._at = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """What is late on the stream that recorded it has come then."""
        del stream
        if self._stream is not None:
            device.reached(self._stream)

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds between two events, by the host's clock."""
        return (end._at - self._at) * 1e3

    def query(self) -> bool:
        """Whether it was reached: always."""
        return True

    def synchronize(self) -> None:
        """Wait for the device."""
        device.synchronize()


def install() -> None:
    """Patch ``torch.cuda``; the device library must have been loaded before torch."""
    cuda: Any = torch.cuda
    cuda.is_available = lambda: True
    cuda.is_initialized = lambda: True
    cuda.init = cuda._lazy_init = lambda: None
    cuda.device_count = lambda: 1
    cuda.current_device = lambda: 0
    cuda.set_device = lambda device: None
    cuda.get_device_name = lambda device=None: NAME
    cuda.get_device_capability = lambda device=None: CAPABILITY
    cuda.get_device_properties = lambda device=None: Properties
    cuda.get_arch_list = lambda: ["sm_90"]
    cuda.is_bf16_supported = lambda including_emulation=True: True
    cuda.synchronize = lambda device=None: _synchronize()
    cuda.empty_cache = cuda.ipc_collect = cuda.reset_peak_memory_stats = lambda *_, **__: None
    cuda.memory_allocated = cuda.max_memory_allocated = lambda device=None: _allocated()
    cuda.memory_reserved = cuda.max_memory_reserved = lambda device=None: _allocated()
    cuda.mem_get_info = lambda device=None: (_MEMORY - _allocated(), _MEMORY)
    cuda.manual_seed = cuda.manual_seed_all = lambda seed: None
    cuda.Stream, cuda.Event = Stream, Event
    cuda.current_stream = lambda device=None: Stream(handle=_current_stream())
    cuda.default_stream = lambda device=None: Stream(handle=0)
    cuda.set_stream = lambda stream: _set_current_stream(stream.cuda_stream)
    cuda.stream = _stream
    cuda.device = cuda.device_of = _Here
    cuda.CUDAGraph = cuda.graph = _refused("CUDA graphs")
    cuda._sleep = lambda cycles: None
    tensor: Any = torch.Tensor  # no block is handed to another stream before its work is done
    tensor.record_stream = lambda self, stream: None


class _Here:
    """Stands for ``torch.cuda.device``: there is one device, and it is always current."""

    def __init__(self, device: Any = None) -> None:
        del device

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def _stream(stream: Stream | None) -> Iterator[None]:
    if stream is None:
        yield
        return
    with stream:
        yield


def _refused(what: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{device.NOT_EMULATED}{what}")

    return refuse


_new_stream = device.new_stream
_current_stream = device.current_stream
_set_current_stream = device.set_current_stream
_synchronize = device.synchronize
_allocated = device.allocated_bytes
