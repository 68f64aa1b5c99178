"""What the GPU says of itself while it is clocked: clocks, heat, power, and why it slows down.

Asked between turns, never during one, and seldom: each question takes the driver a millisecond.

Does not: set clocks, or decide what is discarded beyond naming the reasons.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from harness.records import Telemetry

_EVERY_SECONDS = 0.5
_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_SLOWED = 0x08 | 0x20 | 0x40 | 0x80
"""Reasons under which times mean nothing; a power cap is a GPU's ordinary state under load."""


class Thermometer:
    """Watches one GPU; where the driver does not answer, it has seen nothing."""

    def __init__(self, uuid: str | None) -> None:
        self._nvml: Any = None
        self._handle: Any = None
        self._asked = 0.0
        self._clocks: list[int] = []
        self._heat: list[int] = []
        self._power: list[float] = []
        self._reasons = 0
        if uuid is not None:
            with contextlib.suppress(Exception):
                import pynvml

                pynvml.nvmlInit()
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                self._nvml = pynvml

    def begin(self) -> None:
        """Forget what was seen, and look."""
        self._clocks, self._heat, self._power, self._reasons = [], [], [], 0
        self._look()

    def slowed(self) -> bool | None:
        """Whether the GPU is slowed down just now; ``None`` where it was not asked."""
        if time.perf_counter() - self._asked < _EVERY_SECONDS:
            return None
        return self._look()

    def _look(self) -> bool | None:
        if self._nvml is None:
            return None
        nvml, handle = self._nvml, self._handle
        try:
            reasons = int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
            self._clocks.append(int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)))
            self._heat.append(int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)))
            self._power.append(nvml.nvmlDeviceGetPowerUsage(handle) / 1e3)
        except Exception:  # a driver that answers one question need not answer all
            self._nvml = None
            return None
        self._asked = time.perf_counter()
        self._reasons |= reasons
        return bool(reasons & _SLOWED)

    def read(self, discarded: int) -> Telemetry | None:
        """What was seen since ``begin``; ``discarded`` pairs of turns were under a slowdown."""
        self._look()
        if not self._clocks:
            return None
        return Telemetry(
            sm_mhz=(min(self._clocks), max(self._clocks)),
            celsius=max(self._heat),
            watts=max(self._power),
            reasons=tuple(words for bit, words in _REASONS.items() if self._reasons & bit),
            discarded_pairs=discarded,
        )
