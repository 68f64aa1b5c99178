"""What two clocks may say of one call, and what they may not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.oracle.integrity import CPU, GPU, Seen, contradiction, impossible, low

milliseconds = st.floats(0.003, 100.0)


def seen(
    call: float,
    *,
    turn: float | None = None,
    overhead: float = 0.035,
    copying: float = 0.1,
    noise: float = 0.0,
    seed: int = 0,
) -> Seen:
    """An honest module's clocks, unless told otherwise."""
    chance = random.Random(seed)
    spots = [call * (1 + noise * chance.random()) for _ in range(8)]
    done = [s + overhead * (1 + noise * chance.random()) for s in spots]
    held = [d + copying * (1 + noise * chance.random()) for d in done]
    return Seen([turn or call] * 64, spots, done, held)


@given(reference=milliseconds, candidate=milliseconds, seed=st.integers(0, 1000))
def test_an_honest_module_is_never_accused_whatever_its_speed(
    reference: float, candidate: float, seed: int
) -> None:
    theirs = seen(reference, noise=0.02, seed=seed)
    own = seen(candidate, noise=0.02, seed=seed + 1)
    assert contradiction("forward", theirs, own, GPU) is None


@given(call=st.floats(0.5, 100.0), share=st.floats(0.01, 0.7))
def test_events_that_claim_a_share_of_the_time_are_a_contradiction(
    call: float, share: float
) -> None:
    honest = seen(call, copying=0.01)
    lie = Seen([share * call] * 64, [share * call] * 8, honest.done, honest.held)
    found = contradiction("forward", honest, lie, GPU)
    assert found is not None
    assert "event clock" in found


@given(call=st.floats(0.05, 100.0), share=st.floats(0.0001, 0.5))
def test_turns_faster_than_spot_checks_are_a_contradiction(call: float, share: float) -> None:
    found = contradiction("forward", seen(call), seen(call, turn=share * call), GPU)
    assert found is not None
    assert "outside of the timed calls" in found


@given(call=st.floats(0.05, 100.0), waking=st.floats(0.0, 0.19))
def test_a_module_that_waits_for_the_device_may_be_slow_to_wake(call: float, waking: float) -> None:
    honest = seen(call + waking, turn=call)
    waited = replace(honest, waited=[call + waking] * 8)
    assert contradiction("forward", seen(call), waited, GPU) is None


@given(call=st.floats(1.0, 100.0), share=st.floats(0.0001, 0.35), waking=st.floats(0.0, 0.19))
def test_waiting_for_the_device_excuses_no_work_done_before(
    call: float, share: float, waking: float
) -> None:
    turn = share * call
    found = seen(call + waking, turn=turn)
    for waited in (turn + waking, call + waking):  # it works ahead there too, or keeps still there
        lie = replace(found, waited=[waited] * 8)
        assert contradiction("forward", seen(call), lie, GPU) is not None


def test_an_answer_that_comes_late_is_a_contradiction() -> None:
    honest = seen(0.2)
    late = Seen(honest.turns, honest.spots, honest.done, [h + 5 for h in honest.held])
    assert "still busy" in str(contradiction("forward", honest, late, GPU))


@given(call=st.floats(0.05, 100.0), late=st.floats(0.2, 100.0))
def test_work_that_goes_on_after_the_word_that_it_is_done_is_a_contradiction(
    call: float, late: float
) -> None:
    honest = seen(call)
    busy = Seen(honest.turns, honest.spots, honest.done, [h + late for h in honest.held])
    assert contradiction("forward", honest, busy, GPU) is not None


def test_a_word_that_comes_before_the_events_say_so_is_a_contradiction() -> None:
    honest = seen(0.2)
    early = [0.01, *honest.done[1:]]
    found = contradiction("forward", honest, Seen(honest.turns, honest.spots, early, early), GPU)
    assert "sooner" in str(found)


def test_an_answer_in_another_layout_may_take_longer_to_copy() -> None:
    theirs, own = seen(3, overhead=0.5, copying=0.4), seen(3, overhead=1.6, copying=0.4)
    assert contradiction("forward", theirs, own, GPU) is None


def test_a_reference_whose_spot_checks_are_slow_excuses_a_candidate_like_it() -> None:
    slow = seen(0.3, turn=0.1)
    assert contradiction("forward", slow, slow, GPU) is None


def test_on_the_cpu_only_gross_lies_are_found() -> None:
    honest = seen(5.0)
    lie = Seen([0.5] * 64, [0.5] * 8, honest.done, honest.held)
    assert contradiction("forward", honest, lie, CPU) is None
    slow = seen(500.0)
    lie = Seen([0.5] * 64, [0.5] * 8, slow.done, slow.held)
    assert contradiction("forward", slow, lie, CPU) is not None


def test_a_floor_may_be_missed_by_little_and_not_by_much() -> None:
    assert impossible("forward", 0.9, 1.0, "moving bytes") is None
    found = impossible("forward", 0.5, 1.0, "moving bytes")
    assert found is not None
    assert "moving bytes takes 1 ms" in found


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [3.0] * 9])
def test_the_low_end_of_equal_values_is_that_value(values: list[float]) -> None:
    assert low(values) == 3.0
