"""The records of clocking: what was clocked, how long it took, and a speedup from two latencies.

Public through ``harness.records``. Does not: measure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, computed_field, model_validator

from harness._record import Positive, Record


class Mode(StrEnum):
    """What was clocked."""

    FORWARD = "forward"
    BACKWARD = "backward"
    TRAINING_STEP = "training_step"


class Latency(Record):
    """The time of one call, in milliseconds, over all turns of a measurement."""

    milliseconds: Positive
    """Geometric mean over turns of the median of each turn."""
    fastest: Positive
    """Fastest single sample."""
    slowest: Positive
    """Slowest single sample."""
    samples: Annotated[int, Field(ge=1)]
    """Number of samples."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.fastest <= self.milliseconds * (1 + 1e-9):
            raise ValueError("the fastest sample is slower than the latency")
        if not self.slowest >= self.milliseconds * (1 - 1e-9):
            raise ValueError("the slowest sample is faster than the latency")
        return self


class Telemetry(Record):
    """What the GPU said of itself while one mode was clocked."""

    sm_mhz: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    """Lowest and highest clock of its multiprocessors that was seen, MHz."""
    celsius: float
    """Highest temperature."""
    watts: Annotated[float, Field(ge=0)]
    """Highest power."""
    reasons: tuple[str, ...] = ()
    """Why its clocks were held down, if they were."""
    discarded_pairs: Annotated[int, Field(ge=0)] = 0
    """Pairs of turns that were thrown away because it was slowed down by heat or power."""


class Speedup(Record):
    """A candidate clocked against the reference in alternating turns.

    ``low`` and ``high`` bound the speedup with 95 % confidence, from paired
    log-ratios of neighbouring turns.
    """

    mode: Mode
    """What was clocked."""
    baseline: str = "eager"
    """How the reference ran: ``eager`` or ``compiled``."""
    reference: Latency
    """The reference's latency."""
    candidate: Latency
    """The candidate's latency."""
    low: Positive
    """Lower bound of the speedup."""
    high: Positive
    """Upper bound of the speedup."""
    statistical: Annotated[float, Field(ge=0)] = 0.0
    """The part of the interval's half-width that more turns would narrow, relative."""
    pairs: Annotated[int, Field(ge=2)]
    """Number of pairs of turns."""
    outer_reference_ms: Positive
    """The reference's time per spot check by the oracle's own clock, hand-over included."""
    outer_candidate_ms: Positive
    """The candidate's time per spot check by the oracle's own clock, hand-over included."""
    spot_reference_ms: Positive | None = None
    """The reference's time per spot check by its own events: inputs unknown until it begins."""
    spot_candidate_ms: Positive | None = None
    """The candidate's time per spot check by its own events."""
    spot_checks: Annotated[int, Field(ge=0)] = 0
    """How many spot checks each of the two went through; none where inputs cannot be hidden."""
    host_bound: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the candidate's calls that were not queued before the device began them."""
    outputs_judged: Annotated[int, Field(ge=1)]
    """How many outputs of timed calls were compared with expected values."""
    flops: Annotated[int, Field(ge=0)] | None = None
    """Floating-point operations of one forward, where the problem states them (forward only)."""
    bytes_moved: Annotated[int, Field(ge=0)] | None = None
    """Bytes that one forward must move at least, where the problem states them (forward only)."""
    telemetry: Telemetry | None = None
    """What the GPU said of itself meanwhile; absent where it said nothing."""

    @computed_field
    @property
    def speedup(self) -> float:
        """Reference latency over candidate latency; above 1 the candidate is faster."""
        return self.reference.milliseconds / self.candidate.milliseconds

    @model_validator(mode="after")
    def _interval_holds_the_estimate(self) -> Self:
        if not self.low <= self.speedup * (1 + 1e-6) or not self.high >= self.speedup * (1 - 1e-6):
            raise ValueError(
                f"the interval [{self.low}, {self.high}] does not hold the speedup {self.speedup}"
            )
        return self
