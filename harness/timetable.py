"""Where the time went, as tables for a terminal (``--timings``).

Takes records and gives rich's renderables. Does not: print, or compute a figure that a
record does not hold.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.records import Evaluation
from harness.timings import DeviceUse, StepTiming, Timings, step_timings


def of_evaluation(record: Evaluation) -> RenderableType:
    """Each step of one judgement, with its share."""
    table = _table("step", "seconds", "share")
    for step in step_timings([record]):
        table.add_row(step.step, _seconds(step.total_seconds), f"{step.share:.1%}")
    table.add_section()
    table.add_row("from text to verdict", _seconds(record.wall_seconds), "")
    return table


def of_run(record: Timings) -> RenderableType:
    """Each step over all candidates, then each device."""
    parts: list[RenderableType] = [_steps(record.steps)]
    if record.devices:
        parts += [Text(), _devices(record.devices)]
    if record.wall_seconds:
        parts.append(
            Text(
                f"{_seconds(record.wall_seconds)} s for what was judged; "
                f"{record.candidates_per_hour:.0f} candidates an hour",
                "dim",
            )
        )
    return Group(*parts)


def _steps(steps: tuple[StepTiming, ...]) -> Table:
    table = _table("step", "candidates", "median s", "95 % within s", "total s", "share")
    for step in steps:
        table.add_row(
            step.step,
            str(step.count),
            _seconds(step.median_seconds),
            _seconds(step.p95_seconds),
            _seconds(step.total_seconds),
            f"{step.share:.1%}",
        )
    return table


def _devices(devices: tuple[DeviceUse, ...]) -> Table:
    names = ("judged", "judging s", "nothing ready s", "held by others s", "judging")
    table = _table("device", *names)
    for use in devices:
        table.add_row(
            use.device,
            str(use.judged),
            _seconds(use.busy_seconds),
            _seconds(use.waiting_seconds),
            _seconds(use.leased_seconds),
            f"{use.busy_share:.1%}",
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"
