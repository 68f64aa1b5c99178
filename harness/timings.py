"""Where the time of a run went: step by step over candidates, and device by device.

A step is a stage, a wait, or what neither accounts for; the steps of one evaluation
add up to its wall time.

Does not: measure, print, or read files.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field, computed_field

from harness.intervals import percentile_95
from harness.records import Evaluation, Record, Stage

BUILDER_WAIT, DEVICE_WAIT, OTHER = "wait for a builder", "wait for a device", "other"
STEPS: tuple[str, ...] = (
    *(str(stage) for stage in (Stage.EXTRACT, Stage.SCREEN)),
    BUILDER_WAIT,
    str(Stage.BUILD),
    DEVICE_WAIT,
    *(str(stage) for stage in list(Stage)[3:]),
    OTHER,
)
"""Every step, in the order in which a candidate goes through them."""

Seconds = Annotated[float, Field(ge=0)]


class LostDevice(Record):
    """A device that fell ill and was taken out of a batch."""

    device: str
    """Its name: ``cuda:0``."""
    reason: str
    """What was seen."""


class DeviceUse(Record):
    """What a device did in a batch."""

    device: str
    """Its name."""
    judged: Annotated[int, Field(ge=0)]
    """Verdicts reached on it."""
    busy_seconds: Seconds
    """Seconds in which it was judging a candidate, tries that failed included."""
    waiting_seconds: Seconds
    """Seconds in which it was free and nothing was ready for it."""
    leased_seconds: Seconds = 0.0
    """Seconds in which another harness held it."""
    wall_seconds: Seconds
    """Seconds that the batch took."""

    @computed_field
    @property
    def busy_share(self) -> float:
        """Share of the batch's time in which it was judging."""
        return min(1.0, self.busy_seconds / self.wall_seconds) if self.wall_seconds else 0.0


class Session(Record):
    """One process's part of a run: a batch that was resumed has several."""

    started_at: str
    """UTC, ISO 8601."""
    wall_seconds: Seconds
    """From the first generation to the last verdict, or to the interruption."""
    ended: Annotated[int, Field(ge=0)]
    """Verdicts reached."""
    devices: tuple[DeviceUse, ...]
    """What each device did."""
    devices_lost: tuple[LostDevice, ...] = ()
    """Devices that were taken out."""


class StepTiming(Record):
    """The time that candidates spent in one step."""

    step: str
    """A stage's name, ``wait for a builder``, ``wait for a device`` or ``other``."""
    count: Annotated[int, Field(ge=1)]
    """Candidates that came through it."""
    median_seconds: Seconds
    """Half of them took at most this long."""
    p95_seconds: Seconds
    """95 % of them took at most this long."""
    total_seconds: Seconds
    """All of them together."""
    share: Annotated[float, Field(ge=0, le=1)]
    """Of the time of all steps of all candidates."""


class Timings(Record):
    """Where a run's time went."""

    steps: tuple[StepTiming, ...]
    """Over all evaluations, in the order of a judgement."""
    devices: tuple[DeviceUse, ...] = ()
    """Each device, over all sessions of the run."""
    wall_seconds: Seconds = 0.0
    """All sessions together."""
    candidates_per_hour: Seconds = 0.0
    """Verdicts per hour of the sessions that reached them."""


def steps_of(evaluation: Evaluation) -> dict[str, float]:
    """The seconds of every step that a candidate came through, in order.

    They add up to the evaluation's ``wall_seconds``, where it records that.
    """
    seconds: dict[str, float] = {str(k): v for k, v in evaluation.stage_seconds.items()}
    if evaluation.wall_seconds:
        if evaluation.builder_wait_seconds:
            seconds[BUILDER_WAIT] = evaluation.builder_wait_seconds
        if evaluation.device_wait_seconds:
            seconds[DEVICE_WAIT] = evaluation.device_wait_seconds
        seconds[OTHER] = evaluation.other_seconds
    return {step: seconds[step] for step in STEPS if step in seconds}


def step_timings(evaluations: Iterable[Evaluation]) -> tuple[StepTiming, ...]:
    """Each step over many evaluations; steps that nobody came through are left out."""
    by_step: dict[str, list[float]] = defaultdict(list)
    for evaluation in evaluations:
        for step, seconds in steps_of(evaluation).items():
            by_step[step].append(seconds)
    everything = math.fsum(math.fsum(values) for values in by_step.values())
    return tuple(
        StepTiming(
            step=step,
            count=len(values),
            median_seconds=statistics.median(values),
            p95_seconds=percentile_95(values),
            total_seconds=math.fsum(values),
            share=min(1.0, math.fsum(values) / everything) if everything else 0.0,
        )
        for step in STEPS
        if (values := by_step.get(step))
    )


def timings(evaluations: Sequence[Evaluation], sessions: Sequence[Session]) -> Timings:
    """Everything about a run's time."""
    wall = math.fsum(s.wall_seconds for s in sessions)
    ended = sum(s.ended for s in sessions)
    uses: dict[str, list[DeviceUse]] = defaultdict(list)
    for session in sessions:
        for use in session.devices:
            uses[use.device].append(use)
    return Timings(
        steps=step_timings(evaluations),
        devices=tuple(_together(found) for found in uses.values()),
        wall_seconds=wall,
        candidates_per_hour=3600 * ended / wall if wall else 0.0,
    )


def _together(uses: list[DeviceUse]) -> DeviceUse:
    return DeviceUse(
        device=uses[0].device,
        judged=sum(u.judged for u in uses),
        busy_seconds=math.fsum(u.busy_seconds for u in uses),
        waiting_seconds=math.fsum(u.waiting_seconds for u in uses),
        leased_seconds=math.fsum(u.leased_seconds for u in uses),
        wall_seconds=math.fsum(u.wall_seconds for u in uses),
    )
