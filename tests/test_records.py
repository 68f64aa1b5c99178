"""A record cannot lie: what contradicts itself cannot be made, read or altered."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from builders import (
    STAGE_OF,
    clocked,
    comparison,
    device,
    evaluation,
    finding,
    fingerprints,
    latency,
    norms,
    policy,
    speedup,
    trial,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.records import (
    Build,
    DeviceKind,
    Evaluation,
    GradientPolicy,
    Gradients,
    Latency,
    Mode,
    Norms,
    Place,
    Record,
    Route,
    Severity,
    Speedup,
    Stage,
    TensorRole,
    Verdict,
    Worst,
    finite_or_huge,
)

FAILURES = [v for v in Verdict if v is not Verdict.PASSED]
RESTRICTED = {
    Verdict.PASSED: {Stage.AUDIT, Stage.TIME},
    Verdict.NO_CODE: {Stage.EXTRACT},
    Verdict.SYNTAX_ERROR: {Stage.SCREEN},
    Verdict.REJECTED: {Stage.SCREEN, Stage.AUDIT},
    Verdict.BUILD_FAILED: {Stage.BUILD, Stage.LOAD, Stage.INTERFACE},
    Verdict.LOAD_FAILED: {Stage.LOAD},
    Verdict.WRONG_INTERFACE: {Stage.INTERFACE},
    Verdict.WRONG_SHAPE: {Stage.SHAPE, Stage.GRADIENTS},
    Verdict.WRONG_VALUES: {Stage.VALUES, Stage.TIME},
    Verdict.WRONG_GRADIENTS: {Stage.GRADIENTS, Stage.TIME},
}
positive = st.floats(min_value=1e-6, max_value=1e6)
distances = st.floats(min_value=0, allow_nan=False)


def refused(because: str, **parts: Any) -> None:
    with pytest.raises(ValidationError, match=because):
        evaluation(**parts)


def altered(record: Evaluation, change: dict[str, Any]) -> str:
    return json.dumps(json.loads(record.model_dump_json()) | change)


# ---- verdict, stage and findings ---------------------------------------------------------------


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("stage", Stage)
def test_a_verdict_is_reached_at_its_own_stages_only(verdict: Verdict, stage: Stage) -> None:
    if stage in RESTRICTED.get(verdict, set(Stage)):
        assert evaluation(verdict, stage=stage).verdict is verdict
    else:
        refused("cannot be reached", verdict=verdict, stage=stage)


@pytest.mark.parametrize("verdict", FAILURES)
def test_no_code_means_that_there_is_no_candidate(verdict: Verdict) -> None:
    wrong = fingerprints(candidate="c" * 64 if verdict is Verdict.NO_CODE else None)
    refused("no_code", verdict=verdict, fingerprints=wrong)


def test_what_passed_has_a_candidate() -> None:
    refused("no_code", fingerprints=fingerprints(candidate=None))


def test_nothing_passes_with_an_error() -> None:
    refused("with an error", findings=(finding(),))


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.NOTE])
def test_what_passed_may_be_warned_about(severity: Severity) -> None:
    assert evaluation(findings=(finding(severity),)).passed


@pytest.mark.parametrize("verdict", FAILURES)
@pytest.mark.parametrize("severities", [(), (Severity.WARNING,), (Severity.NOTE, Severity.WARNING)])
def test_nothing_fails_without_a_reason(verdict: Verdict, severities: tuple[Severity, ...]) -> None:
    refused("says why", verdict=verdict, findings=tuple(finding(s) for s in severities))


@pytest.mark.parametrize(
    "rule", ["R00", "R13", "R1", "r01", "build", "Build.x", "build.", "", "a b.c"]
)
def test_a_rule_id_is_one_of_ours(rule: str) -> None:
    with pytest.raises(ValidationError):
        finding(rule=rule)


@pytest.mark.parametrize("rule", ["R01", "R12", "build.compiler", "time.clocks_disagree", "a.b.c1"])
def test_rule_ids_are_accepted(rule: str) -> None:
    assert finding(rule=rule).rule == rule


def test_a_finding_says_something() -> None:
    with pytest.raises(ValidationError):
        finding(message="")


@pytest.mark.parametrize("place", [{"line": 0}, {"line": -1}, {"line": 1, "column": 0}])
def test_lines_and_columns_count_from_one(place: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Place(**place)


# ---- trials and gradients ----------------------------------------------------------------------


@given(error=distances, budget=distances)
def test_a_comparison_passes_exactly_within_its_budget(error: float, budget: float) -> None:
    assert comparison(error=error, budget=budget).passed is (error <= budget)


@pytest.mark.parametrize("norm", ["relative_l2", "maximum", "tile"])
def test_one_norm_beyond_its_budget_is_enough_to_fail(norm: str) -> None:
    worse = norms(1e-6).model_copy(update={norm: 1.0})
    assert not worse.within(norms(1e-5))
    assert norms(1e-6).within(norms(1e-5))


@pytest.mark.parametrize("norm", ["relative_l2", "maximum", "tile"])
def test_nan_is_never_within_a_budget(norm: str) -> None:
    zero: dict[str, Any] = {"relative_l2": 0.0, "maximum": 0.0, "tile": 0.0}
    with pytest.raises(ValidationError):
        Norms(**zero | {norm: math.nan})
    unchecked = Norms.model_construct(**zero | {norm: math.nan})
    assert not unchecked.within(norms(math.inf))
    assert not norms(0.0).within(unchecked)


@given(st.floats())
def test_a_distance_that_is_no_number_is_stored_as_huge(value: float) -> None:
    stored = finite_or_huge(value)
    assert math.isfinite(stored)
    assert stored == (value if math.isfinite(value) else 1e308)


def test_a_trial_without_comparisons_has_not_passed() -> None:
    empty = trial().model_copy(update={"comparisons": ()})
    assert not empty.passed
    refused("without trials", trials=(trial(), empty))


def test_nothing_passes_without_trials_that_all_passed() -> None:
    refused("without trials", trials=(), gradients=Gradients.WAIVED)
    wrong = trial(comparison(), comparison(TensorRole.GRAD_INPUT, error=1.0))
    refused("without trials", trials=(trial(), wrong))


def test_what_passed_says_what_came_of_the_gradients() -> None:
    refused("nothing is said", gradients=Gradients.NOT_REACHED)


def test_gradients_that_are_required_are_there() -> None:
    refused("required", gradients=Gradients.ABSENT)
    assert evaluation(gradients=Gradients.WAIVED).passed
    optional = policy(GradientPolicy.OPTIONAL)
    assert evaluation(gradients=Gradients.ABSENT, policy=optional).passed


@pytest.mark.parametrize("role", [TensorRole.OUTPUT, TensorRole.INPUT, TensorRole.BUFFER])
@pytest.mark.parametrize("verdict", [Verdict.PASSED, Verdict.WRONG_VALUES])
def test_gradients_are_checked_only_where_one_was_compared(
    verdict: Verdict, role: TensorRole
) -> None:
    none = (trial(comparison(role)),)
    refused("no gradient", verdict=verdict, trials=none, gradients=Gradients.CHECKED)


@pytest.mark.parametrize("role", [TensorRole.GRAD_INPUT, TensorRole.GRAD_PARAMETER])
def test_one_compared_gradient_of_any_kind_is_enough(role: TensorRole) -> None:
    some = (trial(comparison()), trial(comparison(role)))
    assert evaluation(trials=some, gradients=Gradients.CHECKED).passed


# ---- timing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", FAILURES)
def test_there_is_no_timing_beside_a_failing_verdict(verdict: Verdict) -> None:
    refused("a timing beside", verdict=verdict, speedups=(speedup(),))


@pytest.mark.parametrize("kind", DeviceKind)
def test_an_emulated_device_has_no_timing(kind: DeviceKind) -> None:
    if kind is DeviceKind.EMULATED:
        launched = {"device": device(kind), "launches": {"relu_kernel": 2}}
        refused("emulated", speedups=(speedup(),), stage=Stage.TIME, **launched)
        refused("emulated", stage=Stage.TIME, **launched)
        assert evaluation(**launched).passed
    else:
        assert clocked(device=device(kind)).speedup(Mode.FORWARD) is not None


def test_launches_are_counted_on_the_emulated_device_only_and_passing_there_takes_one() -> None:
    refused("launches", launches={"relu_kernel": 1})
    refused("kernel of its own", device=device(DeviceKind.EMULATED))


@pytest.mark.parametrize("mode", [Mode.BACKWARD, Mode.TRAINING_STEP])
def test_a_backward_is_clocked_only_where_gradients_were_checked(mode: Mode) -> None:
    timing = (speedup(), speedup(mode=mode))
    refused("not checked", speedups=timing, gradients=Gradients.WAIVED, stage=Stage.TIME)
    assert clocked(*timing).speedup(mode) == timing[1]


def test_the_speedup_of_a_mode_is_the_eager_one() -> None:
    compiled, eager = speedup(3.0, baseline="compiled"), speedup(2.0)
    assert clocked(compiled, eager).speedup(Mode.FORWARD) == eager
    assert clocked(compiled).speedup(Mode.FORWARD) is None


@given(positive, positive, positive)
def test_a_latency_lies_between_its_fastest_and_slowest_sample(
    fastest: float, middle: float, slowest: float
) -> None:
    parts = {"fastest": fastest, "milliseconds": middle, "slowest": slowest, "samples": 3}
    if fastest <= middle * (1 + 1e-9) and slowest >= middle * (1 - 1e-9):
        assert Latency(**parts).milliseconds == middle
    else:
        with pytest.raises(ValidationError, match="sample is"):
            Latency(**parts)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("part", ["milliseconds", "fastest", "slowest"])
def test_a_latency_is_a_positive_number(part: str, value: float) -> None:
    good = {"milliseconds": 1.0, "fastest": 1.0, "slowest": 1.0, "samples": 1}
    with pytest.raises(ValidationError):
        Latency(**good | {part: value})


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("part", ["low", "high", "outer_reference_ms", "outer_candidate_ms"])
def test_the_numbers_of_a_speedup_are_positive_and_finite(part: str, value: float) -> None:
    with pytest.raises(ValidationError):
        speedup(2.0, Mode.FORWARD, **{part: value})


@given(reference=positive, candidate=positive, low=positive, high=positive)
def test_the_interval_holds_the_estimate(
    reference: float, candidate: float, low: float, high: float
) -> None:
    parts: dict[str, Any] = {"reference": latency(reference), "candidate": latency(candidate)}
    ratio = reference / candidate
    if low <= ratio * (1 + 1e-6) and high >= ratio * (1 - 1e-6):
        assert speedup(**parts, low=low, high=high).speedup == pytest.approx(ratio)
    else:
        with pytest.raises(ValidationError, match="does not hold"):
            speedup(**parts, low=low, high=high)


@pytest.mark.parametrize("part", [{"pairs": 1}, {"outputs_judged": 0}])
def test_a_speedup_needs_pairs_and_judged_outputs(part: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        speedup(2.0, Mode.FORWARD, **part)


# ---- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", Verdict)
def test_an_evaluation_survives_json(verdict: Verdict) -> None:
    record = evaluation(verdict, stage_seconds={STAGE_OF[verdict]: 0.25}, started_at="now")
    assert Evaluation.model_validate_json(record.model_dump_json()) == record


def test_a_timing_survives_json() -> None:
    record = clocked(speedup(1.7), speedup(0.3, Mode.BACKWARD), speedup(0.9, Mode.TRAINING_STEP))
    read = Evaluation.model_validate_json(record.model_dump_json())
    assert read == record
    assert [s.speedup for s in read.speedups] == [s.speedup for s in record.speedups]


@given(got=st.floats(), expected=st.floats())
def test_every_value_of_the_worst_element_survives_json(got: float, expected: float) -> None:
    worst = Worst(index=(1, 2), got=got, expected=expected)
    wrong = trial(comparison(error=math.inf, worst=worst))
    record = evaluation(Verdict.WRONG_VALUES, trials=(wrong,))
    text = record.model_dump_json()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    read = Evaluation.model_validate_json(text).trials[0].comparisons[0]
    assert read.worst is not None
    for before, after in ((got, read.worst.got), (expected, read.worst.expected)):
        assert after == before or (math.isnan(after) and math.isnan(before))
    assert read.error.relative_l2 == math.inf
    assert not read.passed


@given(st.floats())
def test_a_speedup_is_computed_and_never_read(claimed: float) -> None:
    written = json.loads(speedup(2.0).model_dump_json())
    assert written["speedup"] == 2.0
    text = json.dumps(written | {"speedup": claimed})
    assert Speedup.model_validate_json(text).speedup == 2.0


def test_whether_a_trial_passed_is_computed_and_never_read() -> None:
    wrong = evaluation(Verdict.WRONG_VALUES, trials=(trial(comparison(error=1.0)),))
    forged = wrong.model_dump_json().replace('"passed":false', '"passed":true')
    assert forged != wrong.model_dump_json()
    assert not Evaluation.model_validate_json(forged).trials[0].passed
    raised = forged.replace('"wrong_values"', '"passed"').replace(
        '"stage":"values"', '"stage":"audit"'
    )
    with pytest.raises(ValidationError):
        Evaluation.model_validate_json(raised)


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "passed"},
        {"verdict": "excellent"},
        {"stage": "extract"},
        {"findings": []},
        {"speedups": [json.loads(speedup().model_dump_json())]},
        {"schema_version": 2},
        {"score": 3.0},
    ],
)
def test_what_cannot_be_made_cannot_be_read_either(change: dict[str, Any]) -> None:
    record = evaluation(Verdict.WRONG_VALUES)
    with pytest.raises(ValidationError):
        Evaluation.model_validate_json(altered(record, change))


def every_record() -> list[Record]:
    record = clocked(findings=(finding(Severity.NOTE, place=Place(line=3)),))
    compared = record.trials[0].comparisons[0]
    return [
        record, record.device, record.policy, record.fingerprints, record.findings[0],
        record.trials[0], compared, compared.error, record.speedups[0],
        record.speedups[0].reference, Place(line=1), Worst(index=(), got=0, expected=1),
    ]  # fmt: skip


@pytest.mark.parametrize("record", every_record(), ids=lambda r: type(r).__name__)
def test_records_are_frozen_and_closed(record: Record) -> None:
    for name in type(record).model_fields:
        with pytest.raises(ValidationError):
            setattr(record, name, None)
    with pytest.raises(ValidationError, match="not permitted"):
        type(record).model_validate(record.model_dump() | {"extra": 1})
    with pytest.raises(ValidationError, match="not permitted"):
        type(record).model_validate_json(
            json.dumps(json.loads(record.model_dump_json()) | {"extra": 1})
        )


def test_devices_that_clock_alike_have_one_fingerprint() -> None:
    one = device(DeviceKind.CUDA, index=0, driver="580", cuda="13.0")
    assert (
        one.fingerprint == device(DeviceKind.CUDA, index=3, driver="580", cuda="13.0").fingerprint
    )
    for change in ({"driver": "581"}, {"cuda": "12.8"}, {"torch": "2.9"}, {"name": "Another"}):
        assert one.model_copy(update=change).fingerprint != one.fingerprint
    assert one.model_copy(update={"kind": DeviceKind.CPU}).fingerprint != one.fingerprint


def test_a_text_that_is_too_long_is_cut_and_does_not_break_the_record() -> None:
    found = finding(message="m" * 10**6, advice="a" * 10**6, detail="d" * 10**6)
    assert (len(found.message), len(found.advice), len(found.detail)) == (4000, 4000, 16000)


# Builds


def test_a_build_has_a_reason_if_it_is_a_stock_build_and_only_then() -> None:
    Build(extension="a", route=Route.STOCK, reason="it names torch::nn", seconds=50.0)
    Build(extension="a", route=Route.FAST, seconds=9.0)
    for route, reason in ((Route.STOCK, ""), (Route.FAST, "why"), (Route.KEPT, "why")):
        with pytest.raises(ValidationError, match="build with the reason"):
            Build(extension="a", route=route, reason=reason, seconds=1.0)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_a_build_takes_a_time(seconds: float) -> None:
    with pytest.raises(ValidationError):
        Build(extension="a", route=Route.FAST, seconds=seconds)


def test_nothing_is_built_before_the_build_stage() -> None:
    built = (Build(extension="a", route=Route.FAST, seconds=9.0),)
    assert evaluation(builds=built).builds == built
    with pytest.raises(ValidationError, match="an extension was built"):
        evaluation(Verdict.REJECTED, builds=built)
