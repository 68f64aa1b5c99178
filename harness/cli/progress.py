"""What is shown while something runs: the stage of one judgement, the course of a batch.

Writes to standard error, so that standard output stays clean; silent where
nobody watches (no terminal, or ``--json``).
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from harness.cli.pace import Pace, Part, sentence

if TYPE_CHECKING:
    from harness.pool import Event
    from harness.records import Stage

_QUIET = 15.0
"""Seconds after which a plain display says again how far preparation is."""


class StageProgress:
    """A spinner that names the stage."""

    def __init__(self, console: Console, *, enabled: bool) -> None:
        self._status = console.status("starting") if enabled and console.is_terminal else None

    def __enter__(self) -> Self:
        """Start spinning."""
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and leave no trace."""
        if self._status is not None:
            self._status.stop()

    def stage(self, stage: Stage) -> None:
        """A stage has begun."""
        self.say(stage.value)

    def say(self, text: str) -> None:
        """Show some words."""
        if self._status is not None:
            self._status.update(text)


class _PaceColumn(ProgressColumn):
    """Count, rate and time left of a bar, by the clock at hand whenever it is drawn."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        """The words of one bar."""
        return Text(sentence(self._pace, task.fields["part"], time.monotonic()))


class BatchProgress:
    """Two bars, prepared and judged; plain lines where there is no terminal."""

    def __init__(self, console: Console, total: int, *, enabled: bool) -> None:
        self._console = console
        self._enabled = enabled
        self._pace = Pace(total, time.monotonic())
        self._at_device: set[str] = set()
        self._said = time.monotonic()
        self._bars: Progress | None = None
        self._tasks: dict[Part, TaskID] = {}
        if enabled and console.is_terminal:
            self._bars = Progress(
                SpinnerColumn(),
                BarColumn(),
                TimeElapsedColumn(),
                _PaceColumn(self._pace),
                TextColumn("{task.fields[last]}"),
                console=console,
            )
            self._tasks = {
                part: self._bars.add_task(part, total=total, part=part, last="") for part in Part
            }

    def __enter__(self) -> Self:
        """Show the bars."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bars as they are."""
        if self._bars is not None:
            self._bars.stop()

    def event(self, event: Event) -> None:
        """Take note of an event of the pool."""
        if event.kind == "waiting":
            self._words(event.text)
        elif event.kind == "device_lost":
            self._words(f"{event.name} is taken out: {event.text.splitlines()[0]}")
        elif event.kind == "prepared":
            self._at_device.add(event.name)
            self._count(Part.PREPARED, worked=True)
            self._preparing()
        else:
            self._ended(event)

    def _ended(self, event: Event) -> None:
        judged = event.name in self._at_device
        if not judged:  # it came to its end before a device, if it was not judged long ago
            built = event.evaluation is not None and event.evaluation.stage == "build"
            self._count(Part.PREPARED, worked=built)
        self._count(Part.JUDGED, worked=judged, last=event.name)
        word = event.evaluation.verdict if event.evaluation is not None else event.kind
        if self._bars is None:
            self._words(f"[{self._sentence(Part.JUDGED)}] {word}  {event.name}")

    def _count(self, part: Part, *, worked: bool, last: str = "") -> None:
        self._pace.count(part, time.monotonic(), worked=worked)
        if self._bars is not None:
            self._bars.update(self._tasks[part], advance=1, last=last)

    def _preparing(self) -> None:
        """Without a terminal: a sign of life while nothing has been judged for a while."""
        if self._bars is None and time.monotonic() - self._said > _QUIET:
            self._words(f"[{self._sentence(Part.PREPARED)}]")

    def _sentence(self, part: Part) -> str:
        return sentence(self._pace, part, time.monotonic())

    def _words(self, text: str) -> None:
        if self._enabled:
            self._said = time.monotonic()
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
