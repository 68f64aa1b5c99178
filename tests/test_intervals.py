"""The interval of a speedup: what it must not depend on, and how often it holds the truth."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.intervals import (
    Ratio,
    interquartile_mean,
    paired_ratio,
    student_t,
    widened,
    without_outliers,
)

times = st.floats(min_value=1e-3, max_value=1e4)
pairs = st.lists(st.tuples(times, times), min_size=2, max_size=40)
scales = st.floats(min_value=1e-3, max_value=1e3)
Pairs = list[tuple[float, float]]


def split(turns: Pairs) -> tuple[list[float], list[float]]:
    return [r for r, _ in turns], [c for _, c in turns]


def close(a: Ratio, b: Ratio) -> bool:
    """Equal up to the rounding of a logarithm, which the width of the interval multiplies."""
    return all(math.isclose(x, y, rel_tol=1e-9) for x, y in zip(vars(a).values(), vars(b).values()))


def noisy(truth: float, count: int, noise: random.Random) -> tuple[list[float], list[float]]:
    """Pairs of turns on a device that drifts, with noise of 1 % of each turn's own."""
    reference, candidate = [], []
    for turn in range(count):
        drift = 1 + 0.2 * turn / count
        reference.append(truth * drift * math.exp(noise.gauss(0, 0.01)))
        candidate.append(drift * math.exp(noise.gauss(0, 0.01)))
    return reference, candidate


# ---- the ratio ---------------------------------------------------------------------------------


@given(pairs)
def test_the_interval_holds_the_estimate_and_the_estimate_lies_among_the_pairs(
    turns: Pairs,
) -> None:
    found = paired_ratio(*split(turns))
    ratios = [r / c for r, c in turns]
    assert found.low <= found.value <= found.high
    assert min(ratios) * (1 - 1e-12) <= found.value <= max(ratios) * (1 + 1e-12)
    assert found.half_width == pytest.approx(math.log(found.high / found.value), abs=1e-9)


@given(turns=pairs, scale=scales)
def test_the_unit_of_time_does_not_enter(turns: Pairs, scale: float) -> None:
    reference, candidate = split(turns)
    scaled = paired_ratio([scale * r for r in reference], [scale * c for c in candidate])
    assert close(scaled, paired_ratio(reference, candidate))


@given(turns=pairs, scale=scales)
def test_a_slower_reference_scales_the_ratio_and_not_the_width(turns: Pairs, scale: float) -> None:
    reference, candidate = split(turns)
    before = paired_ratio(reference, candidate)
    after = paired_ratio([scale * r for r in reference], candidate)
    assert after.value == pytest.approx(scale * before.value)
    assert after.half_width == pytest.approx(before.half_width, abs=1e-9)


@given(turns=pairs, drifts=st.lists(scales, min_size=40, max_size=40))
def test_drift_that_both_turns_of_a_pair_share_cancels(turns: Pairs, drifts: list[float]) -> None:
    drifted = [(d * r, d * c) for (r, c), d in zip(turns, drifts)]
    assert close(paired_ratio(*split(drifted)), paired_ratio(*split(turns)))


@given(pairs)
def test_swapping_the_sides_gives_the_reciprocal(turns: Pairs) -> None:
    reference, candidate = split(turns)
    one, other = paired_ratio(reference, candidate), paired_ratio(candidate, reference)
    assert close(other, Ratio(1 / one.value, 1 / one.high, 1 / one.low))


@given(turns=pairs, order=st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_enter(turns: Pairs, order: random.Random) -> None:
    shuffled = list(turns)
    order.shuffle(shuffled)
    assert close(paired_ratio(*split(shuffled)), paired_ratio(*split(turns)))


@given(turns=st.lists(times, min_size=2, max_size=20), ratio=scales)
def test_pairs_that_agree_leave_no_doubt(turns: list[float], ratio: float) -> None:
    found = paired_ratio([ratio * t for t in turns], turns)
    assert found.value == pytest.approx(ratio)
    assert found.half_width == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("count", [2, 3, 5, 12, 19, 40])
@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_interval_holds_the_truth_in_95_of_100_measurements(truth: float, count: int) -> None:
    noise = random.Random(f"{truth} {count}")
    rounds = 1500
    held = 0
    for _ in range(rounds):
        found = paired_ratio(*noisy(truth, count, noise))
        held += found.low <= truth <= found.high
    assert 0.92 * rounds <= held <= 0.985 * rounds


@pytest.mark.parametrize("count", [12, 40])
def test_dropping_outliers_keeps_the_interval_honest(count: int) -> None:
    noise = random.Random(count)
    rounds = 1500
    held = 0
    for _ in range(rounds):
        found = paired_ratio(*without_outliers(*noisy(2.0, count, noise)))
        held += found.low <= 2.0 <= found.high
    assert held >= 0.92 * rounds


@pytest.mark.parametrize("bad", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_latency_that_is_no_positive_number_is_refused(bad: float, side: int, place: int) -> None:
    sides = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    sides[side][place] = bad
    with pytest.raises(ValueError, match="not positive"):
        paired_ratio(*sides)


@pytest.mark.parametrize("sides", [([], []), ([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0] * 3, [])])
def test_an_interval_needs_two_pairs(sides: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="two pairs"):
        paired_ratio(*sides)


@given(st.integers(-3, 500))
def test_the_quantile_is_never_optimistic(degrees: int) -> None:
    assert student_t(degrees) >= student_t(degrees + 1)
    assert 1.96 < student_t(degrees) <= 12.706


def test_the_quantiles_are_those_of_the_tables() -> None:
    for degrees, quantile in {1: 12.706, 4: 2.776, 11: 2.228, 29: 2.060, 60: 2.0, 200: 2.0}.items():
        assert student_t(degrees) == quantile


# ---- outliers ----------------------------------------------------------------------------------


@given(pairs)
def test_never_more_than_a_fifth_is_dropped_and_the_rest_keeps_its_order(turns: Pairs) -> None:
    kept = list(zip(*without_outliers(*split(turns)), strict=True))
    assert len(turns) - len(kept) <= len(turns) / 5
    rest = iter(turns)
    assert all(any(pair == other for other in rest) for pair in kept)


@given(pairs, st.integers(-20, 20))
def test_what_counts_as_an_outlier_does_not_depend_on_the_unit(turns: Pairs, power: int) -> None:
    scale = 2.0**power  # exact, so that nothing near the edge changes sides by rounding
    reference, candidate = split(turns)
    kept = without_outliers(reference, candidate)
    scaled = without_outliers([scale * r for r in reference], [scale * c for c in candidate])
    assert scaled == ([scale * r for r in kept[0]], [scale * c for c in kept[1]])


@given(st.lists(st.floats(-0.01, 0.01), min_size=9, max_size=30), st.data())
def test_a_turn_in_which_something_else_ran_is_dropped(
    logs: list[float], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(logs) - 1))
    reference = [math.exp(x) for x in logs]
    reference[at] *= 10
    kept, _ = without_outliers(reference, [1.0] * len(logs))
    assert max(kept) < 5


def test_quiet_turns_are_all_kept() -> None:
    reference = [1.0 + 0.001 * math.sin(i) for i in range(30)]
    assert without_outliers(reference, [1.0] * 30)[0] == reference


# ---- what repetition does not average out ------------------------------------------------------


@given(turns=pairs, systematic=st.floats(0, 0.5))
def test_a_systematic_error_widens_an_interval_around_the_same_value(
    turns: Pairs, systematic: float
) -> None:
    plain = paired_ratio(*split(turns))
    wide = widened(plain, systematic)
    assert wide.value == plain.value
    assert wide.low <= plain.value * math.exp(-systematic) * (1 + 1e-9)
    assert wide.high >= plain.value * math.exp(systematic) * (1 - 1e-9)
    # The ends are numbers near the value: a half-width of a few roundings is known to one of them.
    assert wide.half_width >= plain.half_width * (1 - 1e-9) - 1e-15


def test_no_systematic_error_changes_nothing() -> None:
    plain = paired_ratio([1.0, 1.1, 1.2], [1.0, 1.0, 1.0])
    assert widened(plain, 0.0).half_width == pytest.approx(plain.half_width)


@given(values=st.lists(times, min_size=1, max_size=50))
def test_an_interquartile_mean_lies_within_the_values(values: list[float]) -> None:
    assert min(values) * (1 - 1e-12) <= interquartile_mean(values) <= max(values) * (1 + 1e-12)


def test_an_interquartile_mean_is_deaf_to_a_quarter_of_outliers_on_either_side() -> None:
    assert interquartile_mean([1.0, 1.0, 1.0, 500.0]) == 1.0
    assert interquartile_mean([0.001, 1.0, 1.0, 1.0]) == 1.0


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a value"):
        interquartile_mean([])
