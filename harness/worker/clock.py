"""Times calls inside the worker, with device events or the host's clock.

This is the precise clock, not the trusted one: it runs beside the candidate, so
the oracle holds an outer clock and calls of unknown inputs against it.

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


Pending = Callable[[], Sample]
"""Gives the sample once the device has done its work."""


class CudaClock:
    """Events around calls that are queued faster than the device runs them, on a cold L2 cache."""

    def __init__(self) -> None:
        size = 2 * torch.cuda.get_device_properties(0).L2_cache_size
        self._cache_sized = torch.empty(max(size, 1 << 20) // 4, dtype=torch.float32, device="cuda")

    def hold(self, cycles: int) -> None:
        """Hold the device back for ``cycles`` of its clock, so that the host gets ahead of it."""
        if cycles:
            torch.cuda._sleep(cycles)

    def flush(self) -> None:
        """Evict the inputs: give up persisting lines, then write and read twice the cache.

        Reading matters: lines left dirty would be written back during the next kernel.
        """
        reset_persisting_cache()
        self._cache_sized.zero_()
        self._cache_sized.sum()

    def queue(self, call: Callable[[], None]) -> Pending:
        """Queue ``call`` between two events, after whatever is queued already."""
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begun = time.perf_counter()
        start.record()
        call()
        end.record()
        host = (time.perf_counter() - begun) * 1e3
        gated = not start.query()
        return lambda: Sample(start.elapsed_time(end), host, gated)


class HostClock:
    """The host's monotonic clock around a call; the last-level cache is overwritten first."""

    def __init__(self) -> None:
        self._cache_sized = torch.empty(8 << 20, dtype=torch.float32)

    def hold(self, cycles: int) -> None:
        """Nothing: the host does not get ahead of itself."""

    def flush(self) -> None:
        """Overwrite the last-level cache."""
        self._cache_sized.zero_()

    def queue(self, call: Callable[[], None]) -> Pending:
        """Run ``call``."""
        begun = time.perf_counter_ns()
        call()
        milliseconds = (time.perf_counter_ns() - begun) * 1e-6
        return lambda: Sample(max(milliseconds, 1e-6), milliseconds, True)
