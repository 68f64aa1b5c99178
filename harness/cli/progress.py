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
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from harness.pool import Event
    from harness.records import Stage


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


class BatchProgress:
    """Two bars, prepared and judged; plain lines where there is no terminal."""

    def __init__(self, console: Console, total: int, *, enabled: bool) -> None:
        self._console = console
        self._enabled = enabled
        self._total = total
        self._ended = 0
        self._begun = time.monotonic()
        self._resumed = 0
        self._bars: Progress | None = None
        if enabled and console.is_terminal:
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:10}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[last]}"),
                console=console,
            )
            self._prepared = self._bars.add_task("prepared", total=total, last="")
            self._judged = self._bars.add_task("judged", total=total, last="")

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
        before_device = event.evaluation is not None and not event.evaluation.trials
        if event.kind == "prepared":
            self._advance(prepared=True)
            return
        self._ended += 1
        self._resumed += event.kind == "resumed"
        self._advance(
            judged=True, prepared=event.kind == "resumed" or before_device, text=event.name
        )
        if self._enabled and self._bars is None:
            self._line(event)

    def _advance(self, *, prepared: bool = False, judged: bool = False, text: str = "") -> None:
        if self._bars is None:
            return
        if prepared:
            self._bars.advance(self._prepared)
        if judged:
            self._bars.update(self._judged, advance=1, last=text)

    def _line(self, event: Event) -> None:
        word = event.evaluation.verdict if event.evaluation is not None else event.kind
        fresh = self._ended - self._resumed
        left = ""
        if fresh and self._ended < self._total:
            rate = (time.monotonic() - self._begun) / fresh
            left = f", about {rate * (self._total - self._ended):.0f} s left"
        text = f"[{self._ended}/{self._total}{left}] {word}  {event.name}"
        self._console.print(text, markup=False, highlight=False)
