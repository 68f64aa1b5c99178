"""Times one call inside the worker, with device events or the host's clock.

This is the precise clock, not the trusted one: it runs beside the candidate, so
the oracle holds an outer clock against it.

Does not: repeat, or average.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.arena import reset_persisting_cache


@dataclass(frozen=True)
class Sample:
    """One timed call."""

    milliseconds: float
    """Time of the call on the device."""
    host_milliseconds: float
    """Time the host took to issue it."""
    gated: bool
    """Whether everything was queued before the device began (always so on the CPU)."""


class CudaClock:
    """Events around a call that is queued behind a delay gate, on a cold L2 cache."""

    def __init__(self) -> None:
        size = 2 * torch.cuda.get_device_properties(0).L2_cache_size
        self._cache_sized = torch.empty(max(size, 1 << 20) // 4, dtype=torch.float32, device="cuda")
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def time(self, call: Callable[[], None], gate_cycles: int) -> Sample:
        """Time ``call``; the gate holds the device back for ``gate_cycles`` of its clock."""
        torch.cuda.synchronize()
        self._flush()
        torch.cuda._sleep(gate_cycles)
        begun = time.perf_counter()
        self._start.record()
        call()
        self._end.record()
        host = (time.perf_counter() - begun) * 1e3
        gated = not self._start.query()
        torch.cuda.synchronize()
        return Sample(self._start.elapsed_time(self._end), host, gated)

    def _flush(self) -> None:
        """Evict the inputs: give up persisting lines, then write and read twice the cache.

        Reading matters: lines left dirty would be written back during the next kernel.
        """
        reset_persisting_cache()
        self._cache_sized.zero_()
        self._cache_sized.sum()


class HostClock:
    """The host's monotonic clock around a call; the last-level cache is overwritten first."""

    def __init__(self) -> None:
        self._cache_sized = torch.empty(8 << 20, dtype=torch.float32)

    def time(self, call: Callable[[], None], gate_cycles: int) -> Sample:
        """Time ``call``; there is no gate on the CPU."""
        del gate_cycles
        self._cache_sized.zero_()
        begun = time.perf_counter_ns()
        call()
        milliseconds = (time.perf_counter_ns() - begun) * 1e-6
        return Sample(max(milliseconds, 1e-6), milliseconds, True)
