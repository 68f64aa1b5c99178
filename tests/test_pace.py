"""Rates and the time left: of work alone, of late, and never below what preparation needs."""

from __future__ import annotations

import io

import pytest
from builders import evaluation
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness import report
from harness.cli.pace import Pace, Part, duration, sentence
from harness.cli.progress import BatchProgress
from harness.metrics import summarise
from harness.pool.events import Event, Kind
from harness.records import Verdict
from harness.timings import LostDevice


def test_nothing_is_foretold_before_something_was_judged() -> None:
    pace = Pace(10, 0.0)
    assert pace.seconds_left(Part.JUDGED, 5.0) is None
    assert sentence(pace, Part.JUDGED, 5.0) == "0/10 judged"


def test_what_was_resumed_or_rejected_makes_no_rate() -> None:
    pace = Pace(48, 0.0)
    for _ in range(20):
        pace.count(Part.PREPARED, 1.0, worked=False)
        pace.count(Part.JUDGED, 1.0, worked=False)
    assert pace.per_minute(Part.JUDGED, 1.0) is None
    for now in range(10, 50, 10):
        pace.count(Part.PREPARED, now, worked=True)
        pace.count(Part.JUDGED, now, worked=True)
    assert pace.per_minute(Part.JUDGED, 40.0) == pytest.approx(6)
    assert pace.seconds_left(Part.JUDGED, 40.0) == pytest.approx(240)
    assert sentence(pace, Part.JUDGED, 40.0) == "24/48 judged, 6.0 per minute, about 4 min left"


def test_the_slower_part_decides() -> None:
    pace = Pace(20, 0.0)
    for now in (50.0, 100.0):
        pace.count(Part.PREPARED, now, worked=True)
        pace.count(Part.JUDGED, now, worked=True)
    for _ in range(6):
        pace.count(Part.JUDGED, 100.0, worked=False)
    assert pace.seconds_left(Part.PREPARED, 100.0) == pytest.approx(900)
    assert pace.seconds_left(Part.JUDGED, 100.0) == pytest.approx(900)


def test_a_standstill_shows_and_what_is_long_ago_does_not() -> None:
    pace = Pace(1000, 0.0)
    for now in range(1000, 1040):
        pace.count(Part.JUDGED, now, worked=True)
    assert pace.per_minute(Part.JUDGED, 1039.0) == pytest.approx(60)
    assert (pace.per_minute(Part.JUDGED, 1639.0) or 0) < 3


@given(st.lists(st.tuples(st.sampled_from(Part), st.booleans(), st.floats(0, 100)), max_size=40))
def test_the_time_left_is_never_negative_and_ends_at_nothing(
    steps: list[tuple[Part, bool, float]],
) -> None:
    pace, now = Pace(20, 0.0), 0.0
    for part, worked, passed in steps:
        now += passed
        if pace.done(part) < 20:
            pace.count(part, now, worked=worked)
        left = pace.seconds_left(part, now)
        assert left is None or left >= 0
        assert (left == 0) == (pace.done(part) == 20) or left is None
        preparing = pace.seconds_left(Part.PREPARED, now)
        if part is Part.JUDGED and left and preparing:
            assert left >= preparing


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (300, "5 min"), (9000, "2.5 h")]
)
def test_a_duration_is_said_as_a_person_says_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize("terminal", [False, True])
def test_each_generation_counts_once_in_either_part_however_it_ends(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=150)
    device = evaluation(Verdict.LOAD_FAILED)
    events = [
        Event(Kind.RESUMED, "a"),
        Event(Kind.ENDED, "b", evaluation(Verdict.REJECTED)),
        Event(Kind.WAITING, "cuda:1", text="waiting for cuda:1, which another harness holds"),
        Event(Kind.PREPARED, "c"),
        Event(Kind.ENDED, "d", evaluation(Verdict.BUILD_FAILED)),
        Event(Kind.DEVICE_LOST, "cuda:0", text="it is gone\nand more"),
        Event(Kind.ENDED, "c", device),
        Event(Kind.FAULT, "e", text="a failure of ours"),
    ]
    with BatchProgress(console, 5, enabled=True) as progress:
        for event in events:
            progress.event(event)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("waiting for cuda:1", "cuda:0 is taken out: it is gone", "5/5 judged"):
        assert words in said
    assert "and more" not in said
    assert [progress._pace.done(part) for part in Part] == [5, 5]
    assert ("load_failed  c" in said) == (not terminal)


def test_the_summary_says_which_devices_were_taken_out() -> None:
    lost = LostDevice(device="cuda:3", reason="the driver cannot reach it\nTraceback")
    record = summarise([evaluation()]).model_copy(update={"devices_lost": (lost,)})
    console = Console(file=io.StringIO(), width=120)
    console.print(report.summary(record))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "cuda:3 was taken out: the driver cannot reach it" in said
    assert "Traceback" not in said
