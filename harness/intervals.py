"""Statistics of paired turns: a speedup with an interval from log-ratios.

Pure: takes and gives numbers, imports nothing of ours.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_T95 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
    10: 2.228, 12: 2.179, 15: 2.131, 20: 2.086, 25: 2.060, 30: 2.042, 40: 2.021, 60: 2.000,
}  # fmt: skip
"""Two-sided 95 % quantiles of Student's t, by degrees of freedom."""


@dataclass(frozen=True)
class Ratio:
    """A speedup with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's width, relative."""
        return math.log(self.high / self.low) / 2


def student_t(degrees: int) -> float:
    """The 95 % quantile for ``degrees`` of freedom (the next smaller tabulated one)."""
    return _T95[max(d for d in _T95 if d <= max(1, degrees))]


def paired_ratio(reference: Sequence[float], candidate: Sequence[float]) -> Ratio:
    """Geometric mean of reference/candidate over pairs of neighbouring turns.

    The interval is Student's t on the logarithms of the pairs' ratios: pairs, not
    samples, are independent, since samples of one turn share its clocks and caches.

    Raises:
        ValueError: fewer than two pairs, or a latency that is not positive and finite.
    """
    if len(reference) != len(candidate) or len(reference) < 2:
        raise ValueError("an interval needs at least two pairs of turns")
    if not all(0 < t < math.inf for t in (*reference, *candidate)):
        raise ValueError("a latency is not positive and finite")
    logs = [math.log(r / c) for r, c in zip(reference, candidate, strict=True)]
    mean = statistics.fmean(logs)
    error = statistics.stdev(logs) / math.sqrt(len(logs)) * student_t(len(logs) - 1)
    return Ratio(math.exp(mean), math.exp(mean - error), math.exp(mean + error))


def without_outliers(
    reference: Sequence[float], candidate: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Drop the pairs whose log-ratio lies more than five median deviations off.

    Such a pair holds a turn in which something else ran. Never drops more than a fifth.
    """
    logs = [math.log(r / c) for r, c in zip(reference, candidate, strict=True)]
    middle = statistics.median(logs)
    deviation = statistics.median(abs(x - middle) for x in logs) or 1e-9
    order = sorted(range(len(logs)), key=lambda i: abs(logs[i] - middle), reverse=True)
    allowed = len(logs) // 5
    dropped = {i for i in order[:allowed] if abs(logs[i] - middle) > 5 * 1.4826 * deviation}
    kept = [i for i in range(len(logs)) if i not in dropped]
    return [reference[i] for i in kept], [candidate[i] for i in kept]


def widened(ratio: Ratio, systematic: float) -> Ratio:
    """A ratio whose interval also holds an error that repetition does not average out.

    ``systematic`` is relative, the half-width of a 95 % interval of its own; independent
    errors add in squares.
    """
    half = math.hypot(ratio.half_width, systematic)
    return Ratio(ratio.value, ratio.value * math.exp(-half), ratio.value * math.exp(half))


def percentile_95(values: Sequence[float]) -> float:
    """The nearest rank: a value that 95 % do not exceed.

    Raises:
        IndexError: there are no values.
    """
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half: as steady as a mean, and as deaf to outliers as a median.

    Event clocks tick in steps, so that a median of short times jumps where a mean does not.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a mean needs a value")
    cut = len(values) // 4
    return statistics.fmean(sorted(values)[cut : len(values) - cut])
