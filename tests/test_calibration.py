"""A calibration: what equal modules differ by is allowed, and never less than the defaults."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from builders import device, latency, speedup
from hypothesis import given
from hypothesis import strategies as st

from harness.calibration import Allowances, against_itself, allowances, calibration
from harness.records import Mode, Speedup
from harness.settings import Settings
from harness.store import CalibrationStore, allowances_of


def runs(errors: list[float], milliseconds: float = 1.0, **more: float) -> list[list[Speedup]]:
    """One run for each error, forward only."""
    return [
        [
            speedup(
                1 + e,
                reference=latency(milliseconds * (1 + e)),
                candidate=latency(milliseconds),
                **more,
            )
        ]
        for e in errors
    ]


def test_the_95th_percentile_is_a_value_that_19_of_20_do_not_exceed() -> None:
    (found,) = against_itself("relu", runs([0.001 * i for i in range(20)]))
    assert found.error_95 == pytest.approx(0.018)
    assert found.median_error == pytest.approx(0.0095)
    assert sum(abs(s - 1) <= found.error_95 for s in found.speedups) == 19


def test_modes_are_summed_up_apart() -> None:
    both = [[speedup(1.0), speedup(1.1, Mode.TRAINING_STEP)]] * 3
    assert [a.mode for a in against_itself("relu", both)] == [Mode.FORWARD, Mode.TRAINING_STEP]


@given(sigma=st.floats(0, 0.02), seed=st.integers(0, 100))
def test_allowances_are_never_less_than_the_defaults(sigma: float, seed: int) -> None:
    chance = random.Random(seed)
    found = allowances({"relu": runs([chance.gauss(0, sigma) for _ in range(10)])})
    least = Allowances()
    assert found.systematic >= least.systematic
    assert found.launch_ms >= least.launch_ms
    assert found.done_ms >= least.done_ms


def test_what_intervals_explain_is_no_systematic_error() -> None:
    errors = [0.01 * (-1) ** i for i in range(20)]
    explained = allowances({"relu": runs(errors, statistical=0.02)})
    assert explained.systematic == Allowances().systematic
    unexplained = allowances({"relu": runs(errors, statistical=0.0)})
    assert unexplained.systematic == pytest.approx(1.96 * math.log(1.01), rel=0.01)


def test_a_bias_of_short_calls_is_counted_in_microseconds() -> None:
    errors = [0.1 * (-1) ** i for i in range(20)]
    found = allowances({"relu": runs(errors, milliseconds=0.01, statistical=0.0)})
    assert found.systematic == Allowances().systematic
    assert 1e-3 < found.launch_ms < 4e-3


@given(launch=st.floats(0, 0.01), milliseconds=st.floats(1e-3, 10))
def test_a_training_step_pays_for_the_launches_of_two_passes(
    launch: float, milliseconds: float
) -> None:
    allowed = Allowances(systematic=0.0, launch_ms=launch)
    one = allowed.half_width(Mode.FORWARD, milliseconds, on_gpu=True)
    assert allowed.half_width(Mode.TRAINING_STEP, 2 * milliseconds, on_gpu=True) == one
    assert allowed.half_width(Mode.FORWARD, milliseconds, on_gpu=False) == 0


def test_the_slack_of_two_clocks_is_what_the_sides_differ_by() -> None:
    more = {"spot_reference_ms": 1.0, "spot_candidate_ms": 1.0, "outer_reference_ms": 1.1}
    found = allowances({"relu": runs([0.0] * 3, outer_candidate_ms=1.3, **more)})
    assert found.done_ms == pytest.approx(2 * (0.2 - 0.05 - 0.3 * 0.1))


def test_a_calibration_is_found_again_on_such_a_device_only(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path)
    record = calibration(device(), {"relu": runs([0.05, -0.05], statistical=0.0)})
    assert allowances_of(device(), settings) == Allowances()
    CalibrationStore(tmp_path).save(record)
    assert CalibrationStore(tmp_path).find(device()) == record
    assert allowances_of(device(), settings) == record.allowances
    other = device().model_copy(update={"driver": "1.0"})
    assert CalibrationStore(tmp_path).find(other) is None


def test_a_calibration_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    path = store.save(calibration(device(), {"relu": runs([0.0, 0.0])}))
    path.write_text("{}")
    assert store.find(device()) is None
