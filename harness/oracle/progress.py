"""How far the judgement of one candidate has come, and what was found on the way.

Does not: judge.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from harness.oracle.room import Room
from harness.records import Finding, Gradients, Kernel, Stage, Trial

Report = Callable[[Stage], None]
"""Called when a stage begins."""


@dataclass
class Progress:
    """What the oracle knows of a candidate so far."""

    room: Room
    stage: Stage = Stage.LOAD
    """The latest that was begun."""
    trials: list[Trial] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seconds: dict[Stage, float] = field(default_factory=dict)
    gradients: Gradients = Gradients.NOT_REACHED
    launches: dict[str, int] = field(default_factory=dict)
    kernels: list[Kernel] = field(default_factory=list)
    _begun: float = 0.0

    @contextlib.contextmanager
    def timed(self, stage: Stage, report: Report) -> Iterator[None]:
        """Account for a stage, or for more of one that was there before."""
        report(stage)
        self.stage, self._begun = stage, time.perf_counter()
        try:
            yield
        except torch.OutOfMemoryError:
            self.room.ran_out()
            raise
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + self.elapsed()

    def elapsed(self) -> float:
        """Seconds since the running stage began."""
        return time.perf_counter() - self._begun
