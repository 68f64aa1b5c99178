"""Numbers over many evaluations: fast_p, pass@k, geometric means and the summary of a batch.

What may stand beside what is decided here and nowhere else. Each device kind is
summed up apart. A speedup of an evaluation whose gradients were checked never
meets one that was judged forward-only, and an emulated device has no speedups.

Does not: judge, measure, read files, or import torch.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from harness.records import (
    DeviceKind,
    Evaluation,
    GradientPolicy,
    Gradients,
    Mode,
    Record,
    Verdict,
)
from harness.timings import LostDevice, Timings

PASS_AT = (1, 5, 10)
"""The sample counts k for which pass@k is given."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole."""


def fast_p(speedups: Sequence[float | None], p: float) -> float:
    """Share of all generations that are correct and more than ``p`` times as fast.

    ``None`` stands for a generation that is not correct, and 0 for one that is correct
    but was not clocked. At p = 0 every correct generation counts, so fast_0 is the share
    that is correct. Of no generations at all the share is 0.
    """
    if not p >= 0:
        raise ValueError(f"fast_p is defined for p >= 0, not for {p}")
    if not speedups:
        return 0.0
    correct = [speedup for speedup in speedups if speedup is not None]
    good = len(correct) if p == 0 else sum(speedup > p for speedup in correct)
    return good / len(speedups)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of ``k`` samples passes, estimated from ``c`` passes in ``n``.

    The unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al. 2021, "Evaluating Large
    Language Models Trained on Code" (arXiv:2107.03374), as a product of factors within
    [0, 1], so that no binomial coefficient can overflow.
    """
    if not 0 <= c <= n:
        raise ValueError(f"{c} passes among {n} samples")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples (and k >= 1), not {n}")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def geometric_mean(values: Iterable[float]) -> float | None:
    """The mean that suits ratios, or ``None`` of no values; all must be positive and finite."""
    ratios = list(values)
    for ratio in ratios:
        if not 0 < ratio < math.inf:
            raise ValueError(f"a geometric mean needs positive finite values, not {ratio}")
    if not ratios:
        return None
    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    return min(max(mean, min(ratios)), max(ratios))


def forward_only(evaluation: Evaluation) -> bool:
    """Whether only the forward was judged: by policy, or because there is no backward.

    A failure that never came as far as its gradients owed them, and is not forward-only.
    """
    return evaluation.policy.gradients is GradientPolicy.OFF or evaluation.gradients in (
        Gradients.ABSENT,
        Gradients.WAIVED,
    )


def score_mode(evaluation: Evaluation) -> Mode:
    """Which clocked mode is *the* score of an evaluation.

    The whole training step, unless only the forward was judged.
    """
    return Mode.FORWARD if forward_only(evaluation) else Mode.TRAINING_STEP


def score(evaluation: Evaluation) -> float | None:
    """The speedup that counts, or ``None`` where the candidate failed or was not clocked."""
    measured = evaluation.speedup(score_mode(evaluation))
    return measured.speedup if measured is not None else None


class SpeedSummary(Record):
    """The speedups of one mode, over evaluations that may stand beside each other."""

    mode: Mode
    """What was clocked."""
    forward_only: bool
    """Whether these were judged without gradients."""
    generations: int
    """How many generations the shares below are of, failed ones included."""
    passed: int
    """How many of them passed."""
    clocked: int
    """How many of those were clocked; the others count as correct and as not faster."""
    fast_0: Share
    """Share that is correct."""
    fast_1: Share
    """Share that is correct and faster than the reference."""
    fast_1_5: Share
    """Share that is correct and more than 1.5 times as fast."""
    fast_2: Share
    """Share that is correct and more than twice as fast."""
    geometric_mean: float | None
    """Geometric mean of the clocked speedups."""


class DeviceSummary(Record):
    """All evaluations on one kind of device."""

    kind: DeviceKind
    """The kind."""
    fingerprints: tuple[str, ...]
    """The devices that took part, sorted; with several, read the means with care."""
    generations: int
    """Number of generations."""
    problems: int
    """Number of problems."""
    verdicts: dict[Verdict, int]
    """How often each verdict was reached, in the order of the vocabulary."""
    pass_at: dict[int, Share]
    """pass@k, averaged over problems, for each k of which every problem has k samples."""
    speeds: tuple[SpeedSummary, ...]
    """By mode; none on an emulated device or where nothing that passed was clocked."""


class Summary(Record):
    """A batch in numbers."""

    generations: int
    """Number of generations."""
    problems: int
    """Number of problems."""
    verdicts: dict[Verdict, int]
    """How often each verdict was reached, in the order of the vocabulary."""
    devices: tuple[DeviceSummary, ...]
    """Each kind of device apart."""
    devices_lost: tuple[LostDevice, ...] = ()
    """Devices that fell ill and were taken out while the batch ran."""
    timings: Timings | None = None
    """Where the time went (batches only)."""


def summarise(evaluations: Iterable[Evaluation]) -> Summary:
    """Sum up evaluations, however many problems and devices they come from."""
    everything = list(evaluations)
    return Summary(
        generations=len(everything),
        problems=len({e.problem for e in everything}),
        verdicts=_verdicts(everything),
        devices=tuple(
            _device_summary(kind, here)
            for kind in DeviceKind
            if (here := [e for e in everything if e.device.kind is kind])
        ),
    )


def _device_summary(kind: DeviceKind, evaluations: list[Evaluation]) -> DeviceSummary:
    full = [e for e in evaluations if not forward_only(e)]
    partial = [e for e in evaluations if forward_only(e)]
    candidates = (
        _speed_summary(full, Mode.TRAINING_STEP, without_gradients=False),
        _speed_summary(full, Mode.FORWARD, without_gradients=False),
        _speed_summary(partial, Mode.FORWARD, without_gradients=True),
    )
    emulated = kind is DeviceKind.EMULATED
    return DeviceSummary(
        kind=kind,
        fingerprints=tuple(sorted({e.device.fingerprint for e in evaluations})),
        generations=len(evaluations),
        problems=len({e.problem for e in evaluations}),
        verdicts=_verdicts(evaluations),
        pass_at=_pass_at(evaluations),
        speeds=() if emulated else tuple(s for s in candidates if s is not None),
    )


def _speed_summary(
    evaluations: list[Evaluation], mode: Mode, *, without_gradients: bool
) -> SpeedSummary | None:
    speedups: list[float | None] = []
    clocked: list[float] = []
    for evaluation in evaluations:
        measured = evaluation.speedup(mode)
        if measured is not None:
            clocked.append(measured.speedup)
            speedups.append(measured.speedup)
        else:
            speedups.append(0.0 if evaluation.passed else None)
    passed = sum(speedup is not None for speedup in speedups)
    if not evaluations or (passed and not clocked):
        return None
    return SpeedSummary(
        mode=mode,
        forward_only=without_gradients,
        generations=len(evaluations),
        passed=passed,
        clocked=len(clocked),
        fast_0=fast_p(speedups, 0),
        fast_1=fast_p(speedups, 1),
        fast_1_5=fast_p(speedups, 1.5),
        fast_2=fast_p(speedups, 2),
        geometric_mean=geometric_mean(clocked),
    )


def _verdicts(evaluations: list[Evaluation]) -> dict[Verdict, int]:
    counts = Counter(e.verdict for e in evaluations)
    return {verdict: counts[verdict] for verdict in Verdict if counts[verdict]}


def _pass_at(evaluations: list[Evaluation]) -> dict[int, float]:
    samples: dict[str, list[bool]] = defaultdict(list)
    for evaluation in evaluations:
        samples[evaluation.problem].append(evaluation.passed)
    fewest = min(map(len, samples.values()), default=0)
    return {
        k: math.fsum(pass_at_k(len(s), sum(s), k) for s in samples.values()) / len(samples)
        for k in PASS_AT
        if k <= fewest
    }
