"""Where the time went: the sums are explained, and nothing is counted twice."""

from __future__ import annotations

import math

import pytest
from builders import evaluation
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness import timetable
from harness.records import Evaluation, Stage
from harness.timings import (
    STEPS,
    DeviceUse,
    LostDevice,
    Session,
    step_timings,
    steps_of,
    timings,
)

SECONDS = st.floats(0.0009765625, 1000)
STAGES = st.dictionaries(st.sampled_from(Stage), SECONDS)


@st.composite
def timed(draw: st.DrawFn) -> Evaluation:
    stages, waits, other = draw(STAGES), draw(st.tuples(SECONDS, SECONDS)), draw(SECONDS)
    return evaluation(
        stage_seconds=stages,
        builder_wait_seconds=waits[0],
        device_wait_seconds=waits[1],
        wall_seconds=math.fsum([*stages.values(), *waits, other]),
    )


def use(**more: object) -> DeviceUse:
    parts = {"device": "cuda:0", "judged": 3, "busy_seconds": 6.0, "waiting_seconds": 2.0}
    return DeviceUse.model_validate(parts | {"wall_seconds": 10.0} | more)


def session(**more: object) -> Session:
    parts = {"started_at": "", "wall_seconds": 10.0, "ended": 5, "devices": (use(),)}
    return Session.model_validate(parts | more)


def test_every_stage_is_a_step_in_its_order() -> None:
    assert [s for s in STEPS if s in set(Stage)] == [str(s) for s in Stage]


@given(timed())
def test_the_steps_of_an_evaluation_add_up_to_its_wall_time(one: Evaluation) -> None:
    assert math.fsum(steps_of(one).values()) == pytest.approx(one.wall_seconds)
    assert list(steps_of(one)) == [s for s in STEPS if s in steps_of(one)]


@given(st.lists(timed(), min_size=1, max_size=8))
def test_the_steps_of_many_hold_all_their_time(many: list[Evaluation]) -> None:
    steps = step_timings(many)
    total = math.fsum(e.wall_seconds for e in many)
    assert math.fsum(s.total_seconds for s in steps) == pytest.approx(total)
    assert math.fsum(s.share for s in steps) == pytest.approx(1)
    for step in steps:
        assert step.median_seconds <= step.p95_seconds * (1 + 1e-9)
        assert step.p95_seconds <= step.total_seconds * (1 + 1e-9)
        assert 1 <= step.count <= len(many)


def test_the_95th_percentile_is_one_of_the_values() -> None:
    many = [evaluation(stage_seconds={Stage.BUILD: float(n)}) for n in range(1, 101)]
    (build,) = step_timings(many)
    assert (build.median_seconds, build.p95_seconds, build.count) == (50.5, 95, 100)


def test_a_record_from_before_these_fields_is_read_and_claims_nothing() -> None:
    old = evaluation(stage_seconds={Stage.BUILD: 3.0}).model_dump(mode="json")
    for name in ("builder_wait_seconds", "device_wait_seconds", "wall_seconds", "other_seconds"):
        del old[name]
    again = Evaluation.model_validate(old)
    assert again.wall_seconds == again.other_seconds == 0
    assert steps_of(again) == {"build": 3.0}


def test_sessions_of_a_run_are_summed_device_by_device() -> None:
    other = use(device="cuda:1", judged=2, busy_seconds=1.0)
    lost = LostDevice(device="cuda:1", reason="it is gone")
    sessions = [session(), session(devices=(use(), other), devices_lost=(lost,))]
    found = timings([], sessions)
    assert found.wall_seconds == 20
    assert found.candidates_per_hour == 3600 * 10 / 20
    assert [(u.device, u.judged, u.busy_share) for u in found.devices] == [
        ("cuda:0", 6, 0.6),
        ("cuda:1", 2, 0.1),
    ]


def test_the_tables_name_every_step_and_device() -> None:
    one = evaluation(stage_seconds={Stage.BUILD: 3.0}, device_wait_seconds=1.0, wall_seconds=5.0)
    console = Console(width=120, record=True, file=None, quiet=True)
    with console.capture() as taken:
        console.quiet = False
        console.print(timetable.of_evaluation(one))
        console.print(timetable.of_run(timings([one], [session()])))
    said = taken.get()
    for words in ("build", "60.0%", "wait for a device", "20.0%", "other", "cuda:0", "1800"):
        assert words in said
