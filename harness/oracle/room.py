"""How much of a GPU's memory candidates leave, and whether one of them took what is missing.

What a process held is given back when the process is gone, a little after it was killed: the
next candidate must not be there before, and must not be blamed for it.

Does not: know who holds memory; it compares with what was free when no candidate was there.
"""

from __future__ import annotations

import time

import torch

_SHARE = 8
"""What part of the device's memory may be missing, one in: contexts and arenas come and go."""
_SECONDS = 30.0
_POLL_SECONDS = 0.02


class Room:
    """The memory of the current GPU, or of none."""

    def __init__(self, *, gpu: bool) -> None:
        self._gpu = gpu
        self._alone: int | None = None
        self._missing = 0

    def note(self) -> None:
        """Take note of what is there; to be called while no candidate is."""
        if self._gpu and self._alone is None:
            self._alone = _there()

    def wait(self) -> bool:
        """Wait until nearly as much is there as without candidates; false where that takes long."""
        begun = time.perf_counter()
        while self._lacks() > 0:
            if time.perf_counter() - begun > _SECONDS:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def ran_out(self) -> None:
        """Take note that memory ran out, before the candidate's process is ended."""
        self._missing = self._lacks()

    def was_taken(self) -> bool:
        """Whether what was missing came back with the end of the candidate's process."""
        return self._missing > 0 and self.wait()

    def _lacks(self) -> int:
        """Bytes that are missing beyond what is to be expected."""
        if self._alone is None:
            return 0
        total = torch.cuda.get_device_properties(0).total_memory
        return self._alone - total // _SHARE - _there()


def _there() -> int:
    """Bytes that are free, or that this process could give back."""
    free, _ = torch.cuda.mem_get_info()
    return int(free) + torch.cuda.memory_reserved()
