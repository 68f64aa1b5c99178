"""What the clock makes of equal modules on one machine, and the allowances that follow.

The reference is clocked against itself in many pairs of fresh processes. What its speedup is off
one by, beyond what the intervals say, is systematic; what the oracle's clock and the events
differ by between the two sides is the slack of honest modules. Both go into every judgement here.

Pure. Does not: clock, or keep anything.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field, computed_field

from harness._record import Positive, Record
from harness.intervals import percentile_95
from harness.records import Device, Mode, Speedup
from harness.version import __version__

SHORT_MS = 0.1
"""Calls shorter than this are dominated by the cost of a launch."""
_SHARE, _AROUND = 0.05, 0.3
"""What the oracle's clock may differ by anyway, of a call's own time and of what it takes to
decipher its inputs and write its answers (``oracle.integrity``)."""
_TIMES_SEEN = 2.0
"""Slack that is allowed, in what was seen."""


def passes(mode: Mode) -> int:
    """How many passes a mode has; short ones are a kernel or two each."""
    return 2 if mode is Mode.TRAINING_STEP else 1


class Allowances(Record):
    """What separates equal modules on a machine; the defaults were measured on an H100."""

    systematic: Annotated[float, Field(ge=0, le=0.1)] = 0.001
    """Half-width of a 95 % interval of what no repetition averages out, relative."""
    launch_ms: Annotated[float, Field(ge=0, le=0.01)] = 2e-4
    """The same for what is a cost of launches, milliseconds for each pass (forward or backward)."""
    done_ms: Annotated[float, Field(ge=0, le=1)] = 0.03
    """By how much the oracle's clock may run longer than the events, beside the reference's own."""

    def half_width(self, mode: Mode, milliseconds: float, *, on_gpu: bool) -> float:
        """What no repetition averages out of a call of so many milliseconds, relative."""
        return self.systematic + (passes(mode) * self.launch_ms / milliseconds if on_gpu else 0.0)


class AgainstItself(Record):
    """One problem's reference clocked against itself, in one mode."""

    problem: str
    mode: Mode
    milliseconds: Positive
    """Median latency."""
    speedups: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """One for each pair of processes."""
    covered: Annotated[int, Field(ge=0)]
    """How many of the stated intervals hold 1."""

    @computed_field
    @property
    def median_error(self) -> float:
        """Median of |speedup − 1|."""
        return float(statistics.median(abs(s - 1) for s in self.speedups))

    @computed_field
    @property
    def error_95(self) -> float:
        """95th percentile of |speedup − 1| (nearest rank)."""
        return percentile_95([abs(s - 1) for s in self.speedups])


class Calibration(Record):
    """What a machine's clock is worth."""

    device: Device
    harness_version: str
    measured_at: str
    """UTC, ISO 8601."""
    against_itself: tuple[AgainstItself, ...]
    allowances: Allowances


def calibration(device: Device, measured: Mapping[str, Sequence[Sequence[Speedup]]]) -> Calibration:
    """The record of runs of the reference against itself, by problem."""
    return Calibration(
        device=device,
        harness_version=__version__,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        against_itself=tuple(a for n, runs in measured.items() for a in against_itself(n, runs)),
        allowances=allowances(measured),
    )


def against_itself(problem: str, runs: Sequence[Sequence[Speedup]]) -> list[AgainstItself]:
    """Sum up runs of one problem, mode by mode."""
    made = []
    for mode in Mode:
        found = [s for run in runs for s in run if s.mode is mode]
        if found:
            made.append(
                AgainstItself(
                    problem=problem,
                    mode=mode,
                    milliseconds=statistics.median(s.reference.milliseconds for s in found),
                    speedups=tuple(s.speedup for s in found),
                    covered=sum(s.low <= 1 <= s.high for s in found),
                )
            )
    return made


def allowances(measured: Mapping[str, Sequence[Sequence[Speedup]]]) -> Allowances:
    """What honest modules must be allowed, from runs of the reference against itself by problem.

    Never less than the defaults: a few runs cannot show how rare the worst is.
    """
    every = [s for runs in measured.values() for run in runs for s in run]
    least = Allowances()
    long = [s for s in every if s.candidate.milliseconds >= SHORT_MS]
    short = [s for s in every if s.candidate.milliseconds < SHORT_MS]
    launch = max((s.candidate.milliseconds / passes(s.mode) for s in short), default=0.0)
    launch *= _beyond(short)
    slack = max((_slack(s) for s in every), default=0.0)
    return Allowances(
        systematic=min(0.1, max(least.systematic, _beyond(long))),
        launch_ms=min(0.01, max(least.launch_ms, launch)),
        done_ms=min(1.0, max(least.done_ms, _TIMES_SEEN * slack)),
    )


def _beyond(found: Sequence[Speedup]) -> float:
    """How far equal modules are apart at 95 %, beyond what repetition explains."""
    if not found:
        return 0.0
    spread = 1.96**2 * statistics.fmean(math.log(s.speedup) ** 2 for s in found)
    explained = statistics.fmean(s.statistical**2 for s in found)
    return math.sqrt(max(0.0, spread - explained))


def _slack(one: Speedup) -> float:
    """What the two clocks differ by between the sides, beyond a share of the call."""
    if one.spot_reference_ms is None or one.spot_candidate_ms is None:
        return 0.0
    reference = one.outer_reference_ms - one.spot_reference_ms
    candidate = one.outer_candidate_ms - one.spot_candidate_ms
    anyway = _SHARE * one.spot_candidate_ms + _AROUND * min(candidate, reference)
    return max(0.0, abs(candidate - reference) - anyway)
