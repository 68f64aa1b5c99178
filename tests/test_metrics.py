"""Metrics: each formula against its definition, and what a summary must never mix."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.metrics import (
    Summary,
    fast_p,
    forward_only,
    geometric_mean,
    pass_at_k,
    score,
    score_mode,
    summarise,
)
from harness.records import (
    Comparison,
    Device,
    DeviceKind,
    Evaluation,
    Finding,
    Fingerprints,
    GradientPolicy,
    Gradients,
    Latency,
    Mode,
    Norms,
    Policy,
    Severity,
    Speedup,
    Stage,
    TensorRole,
    Trial,
    Verdict,
)

ratios = st.floats(min_value=1e-6, max_value=1e6)
outcomes = st.lists(st.none() | ratios, max_size=40)


# ---- helpers: evaluations that the validators accept ------------------------------------------


def latency(ms: float) -> Latency:
    return Latency(milliseconds=ms, fastest=ms, slowest=ms, samples=3)


def clocked(mode: Mode, ratio: float, baseline: str = "eager") -> Speedup:
    reference, candidate = latency(ratio), latency(1.0)
    return Speedup(
        mode=mode,
        baseline=baseline,
        reference=reference,
        candidate=candidate,
        low=ratio,
        high=ratio,
        pairs=2,
        outer_reference_ms=ratio,
        outer_candidate_ms=1.0,
        outputs_judged=1,
    )


def trial(*roles: TensorRole) -> Trial:
    zero = Norms(relative_l2=0, maximum=0, tile=0)
    return Trial(
        case="headline",
        draw="normal",
        seed=1,
        comparisons=tuple(
            Comparison(
                tensor=role, role=role, shape=(1,), error=zero, reference_error=zero, budget=zero
            )
            for role in roles
        ),
    )


def evaluation(
    verdict: Verdict = Verdict.PASSED,
    *,
    problem: str = "relu",
    kind: DeviceKind = DeviceKind.CUDA,
    policy: GradientPolicy = GradientPolicy.REQUIRED,
    gradients: Gradients | None = None,
    speedups: tuple[Speedup, ...] = (),
) -> Evaluation:
    passed = verdict is Verdict.PASSED
    if gradients is None:
        gradients = Gradients.CHECKED if passed else Gradients.NOT_REACHED
    checked = gradients is Gradients.CHECKED
    roles = (TensorRole.OUTPUT, TensorRole.GRAD_INPUT) if checked else (TensorRole.OUTPUT,)
    stage = Stage.AUDIT if passed else Stage.BUILD
    why = Finding(rule="build.compiler", severity=Severity.ERROR, stage=stage, message="no")
    return Evaluation(
        harness_version="0",
        generation="g",
        problem=problem,
        fingerprints=Fingerprints(generation="0", candidate="0", problem="0"),
        verdict=verdict,
        stage=stage,
        device=Device(kind=kind, name="d", torch="2"),
        policy=Policy(gradients=policy, sandbox="none"),
        findings=() if passed else (why,),
        gradients=gradients,
        trials=(trial(*roles),) if passed or checked else (),
        speedups=speedups,
        launches={"kernel": 1} if passed and kind is DeviceKind.EMULATED else {},
    )


def full(ratio: float, forward: float = 1.0, **kwargs: object) -> Evaluation:
    modes = (clocked(Mode.TRAINING_STEP, ratio), clocked(Mode.FORWARD, forward))
    return evaluation(speedups=modes, **kwargs)  # type: ignore[arg-type]


def only_forward(ratio: float, **kwargs: object) -> Evaluation:
    return evaluation(
        policy=GradientPolicy.OFF,
        gradients=Gradients.WAIVED,
        speedups=(clocked(Mode.FORWARD, ratio),),
        **kwargs,  # type: ignore[arg-type]
    )


FAILED = Verdict.BUILD_FAILED


# ---- fast_p -----------------------------------------------------------------------------------


@given(outcomes, st.floats(min_value=0, max_value=10))
def test_fast_p_is_a_share_of_all_generations(speedups: list[float | None], p: float) -> None:
    share = fast_p(speedups, p)
    assert 0 <= share <= 1
    good = [s for s in speedups if s is not None and (p == 0 or s > p)]
    assert share * max(len(speedups), 1) == pytest.approx(len(good))


@given(outcomes, st.floats(min_value=0, max_value=10), st.floats(min_value=0, max_value=10))
def test_fast_p_never_grows_with_p(speedups: list[float | None], a: float, b: float) -> None:
    assert fast_p(speedups, max(a, b)) <= fast_p(speedups, min(a, b))


@given(outcomes)
def test_fast_0_is_the_share_that_is_correct(speedups: list[float | None]) -> None:
    assume(speedups)
    assert fast_p(speedups, 0) == sum(s is not None for s in speedups) / len(speedups)


def test_fast_0_counts_a_correct_generation_that_was_not_clocked() -> None:
    assert fast_p([0.0, None], 0) == 0.5
    assert fast_p([0.0, None], 1) == 0.0


def test_fast_p_excludes_a_tie() -> None:
    assert fast_p([1.0, 2.0], 1) == 0.5


@given(outcomes, st.floats(min_value=0, max_value=10))
def test_a_failure_more_never_raises_fast_p(speedups: list[float | None], p: float) -> None:
    assert fast_p([*speedups, None], p) <= fast_p(speedups, p)


@pytest.mark.parametrize("p", [-1.0, math.nan])
def test_fast_p_refuses_a_p_without_meaning(p: float) -> None:
    with pytest.raises(ValueError, match="fast_p"):
        fast_p([1.0], p)


# ---- pass@k -----------------------------------------------------------------------------------


@st.composite
def samples(draw: st.DrawFn, most: int = 200) -> tuple[int, int, int]:
    n = draw(st.integers(1, most))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@given(samples())
def test_pass_at_k_is_the_unbiased_estimator(ncs: tuple[int, int, int]) -> None:
    n, c, k = ncs
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(exact), rel=1e-9, abs=1e-12)


@given(samples())
def test_pass_at_k_stays_within_0_and_1_and_grows_with_c(ncs: tuple[int, int, int]) -> None:
    n, c, k = ncs
    assert 0 <= pass_at_k(n, c, k) <= 1
    if c < n:
        assert pass_at_k(n, c, k) <= pass_at_k(n, c + 1, k) + 1e-12


@given(st.integers(1, 500), st.data())
def test_pass_at_1_is_the_share_that_passed(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    assert pass_at_k(n, c, 1) == pytest.approx(c / n)


def test_pass_at_k_does_not_overflow_with_very_many_samples() -> None:
    assert pass_at_k(1_000_000, 1, 500_000) == pytest.approx(0.5)


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0), (0, 0, 1)])
def test_pass_at_k_refuses_impossible_counts(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="samples"):
        pass_at_k(n, c, k)


# ---- geometric mean ---------------------------------------------------------------------------


@given(st.lists(ratios, min_size=1, max_size=30))
def test_the_geometric_mean_lies_between_the_extremes(values: list[float]) -> None:
    mean = geometric_mean(values)
    assert mean is not None
    assert min(values) <= mean <= max(values)


@given(st.lists(ratios, min_size=1, max_size=30))
def test_the_geometric_mean_of_inverses_is_the_inverse(values: list[float]) -> None:
    mean, inverse = geometric_mean(values), geometric_mean([1 / v for v in values])
    assert mean is not None
    assert inverse is not None
    assert mean * inverse == pytest.approx(1)


def test_the_geometric_mean_of_nothing_is_nothing() -> None:
    assert geometric_mean([]) is None


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_the_geometric_mean_refuses_what_is_not_a_ratio(bad: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        geometric_mean([1.0, bad])


# ---- which speedup is the score ---------------------------------------------------------------


def test_the_score_is_the_training_step_where_gradients_were_checked() -> None:
    judged = full(2.0, forward=9.0)
    assert score_mode(judged) is Mode.TRAINING_STEP
    assert score(judged) == pytest.approx(2.0)


def test_the_score_of_a_forward_only_evaluation_is_its_forward() -> None:
    judged = only_forward(3.0)
    assert forward_only(judged)
    assert score_mode(judged) is Mode.FORWARD
    assert score(judged) == pytest.approx(3.0)


def test_a_missing_backward_under_optional_gradients_is_forward_only() -> None:
    assert forward_only(evaluation(policy=GradientPolicy.OPTIONAL, gradients=Gradients.ABSENT))


@given(st.sampled_from([GradientPolicy.REQUIRED, GradientPolicy.OPTIONAL]))
def test_a_failure_before_its_gradients_still_owes_them(policy: GradientPolicy) -> None:
    failed = evaluation(FAILED, policy=policy)
    assert not forward_only(failed)
    assert score(failed) is None


def test_a_compiled_baseline_is_never_the_score() -> None:
    compiled = clocked(Mode.TRAINING_STEP, 4.0, baseline="compiled")
    assert score(evaluation(speedups=(compiled,))) is None


# ---- summaries --------------------------------------------------------------------------------

any_evaluation = st.one_of(
    st.builds(full, ratios, problem=st.sampled_from("ab")),
    st.builds(full, ratios, problem=st.sampled_from("ab"), kind=st.just(DeviceKind.CPU)),
    st.builds(only_forward, ratios, problem=st.sampled_from("ab")),
    st.builds(evaluation, st.just(Verdict.PASSED), kind=st.just(DeviceKind.EMULATED)),
    st.builds(
        evaluation,
        st.sampled_from([FAILED, Verdict.RUNTIME_ERROR]),
        problem=st.sampled_from("ab"),
        kind=st.sampled_from(list(DeviceKind)),
        policy=st.sampled_from(list(GradientPolicy)),
    ),
)


@given(st.lists(any_evaluation, max_size=25))
def test_a_summary_counts_every_evaluation_once(evaluations: list[Evaluation]) -> None:
    summary = summarise(evaluations)
    assert summary.generations == len(evaluations)
    assert sum(summary.verdicts.values()) == len(evaluations)
    assert sum(d.generations for d in summary.devices) == len(evaluations)
    assert summary.problems == len({e.problem for e in evaluations})
    for device in summary.devices:
        assert sum(device.verdicts.values()) == device.generations
        by_terms = {s.forward_only: s.generations for s in device.speeds}
        assert sum(by_terms.values()) <= device.generations


@given(st.lists(any_evaluation, max_size=25), st.randoms(use_true_random=False))
def test_the_order_of_evaluations_does_not_matter(evaluations: list[Evaluation], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(evaluations)
    random.shuffle(shuffled)
    assert summarise(shuffled) == summarise(evaluations)


@given(st.lists(any_evaluation, max_size=25))
def test_a_summary_survives_json(evaluations: list[Evaluation]) -> None:
    summary = summarise(evaluations)
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


@given(st.lists(any_evaluation, max_size=25))
def test_an_emulated_device_has_no_speeds(evaluations: list[Evaluation]) -> None:
    for device in summarise(evaluations).devices:
        if device.kind is DeviceKind.EMULATED:
            assert device.speeds == ()


def test_device_kinds_and_forward_only_judgements_are_never_mixed() -> None:
    summary = summarise(
        [
            full(2.0, forward=5.0),
            full(8.0, forward=5.0),
            full(100.0, kind=DeviceKind.CPU),
            only_forward(1000.0),
            evaluation(kind=DeviceKind.EMULATED),
        ]
    )
    cuda, cpu, emulated = summary.devices
    means = {(s.mode, s.forward_only): s.geometric_mean for s in cuda.speeds}
    assert means == {
        (Mode.TRAINING_STEP, False): pytest.approx(4.0),
        (Mode.FORWARD, False): pytest.approx(5.0),
        (Mode.FORWARD, True): pytest.approx(1000.0),
    }
    assert cpu.speeds[0].geometric_mean == pytest.approx(100.0)
    assert (emulated.kind, emulated.speeds) == (DeviceKind.EMULATED, ())


def test_shares_are_of_all_generations_and_the_mean_is_of_the_clocked() -> None:
    summary = summarise([full(1.2), full(1.8), full(3.0), evaluation(), evaluation(FAILED)])
    step = summary.devices[0].speeds[0]
    assert (step.generations, step.passed, step.clocked) == (5, 4, 3)
    assert (step.fast_0, step.fast_1, step.fast_1_5, step.fast_2) == (0.8, 0.6, 0.4, 0.2)
    assert step.geometric_mean == pytest.approx((1.2 * 1.8 * 3.0) ** (1 / 3))


def test_where_nothing_passed_the_shares_are_zero_and_there_is_no_mean() -> None:
    step = summarise([evaluation(FAILED)]).devices[0].speeds[0]
    assert (step.fast_0, step.fast_1, step.geometric_mean) == (0.0, 0.0, None)


def test_where_nothing_that_passed_was_clocked_no_speed_is_claimed() -> None:
    assert summarise([evaluation(), evaluation(FAILED)]).devices[0].speeds == ()


def test_pass_at_k_is_given_only_where_every_problem_has_k_samples() -> None:
    five = [full(1.0, problem="a")] * 2 + [evaluation(FAILED, problem="a")] * 3
    one = [evaluation(FAILED, problem="b")]
    assert summarise(five).devices[0].pass_at == {
        1: pytest.approx(0.4),
        5: pytest.approx(1.0),
    }
    assert summarise(five + one).devices[0].pass_at == {1: pytest.approx(0.2)}


def test_a_summary_of_nothing_is_empty() -> None:
    assert summarise([]) == Summary(generations=0, problems=0, verdicts={}, devices=())
