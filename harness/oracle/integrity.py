"""Whether what a candidate's clock says can be true: against the oracle's clock, and physics.

A spot check is a call of which nothing could be known beforehand and whose answer
was taken at once. Its time by the worker's events must agree with the oracle's own clock,
and a turn's calls, whose inputs lay there in the clear, must not be faster than it.

Pure: numbers in, a sentence or nothing out. Does not: measure.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Slack:
    """How much two clocks of one call may differ between honest modules."""

    share: float
    """Of the call's own time."""
    around: float
    """Of what lies around the reference's call: memory differs between processes."""
    done_ms: float
    """Besides, until the device is done and the answers are written, in milliseconds."""
    held_ms: float
    """Besides, from then until the oracle holds the answers."""
    layout: float
    """Of what copying the reference's answers takes: an answer may lie in another layout."""
    hidden_ms: float
    """By how much a spot check may besides be slower than calls of inputs in the clear."""
    waking: float
    """How much slower a call that waits for the device may be where it waits for longer, as a
    share of its time in turns: its host's part runs on a core that has slept."""
    waking_ms: float
    """The same besides, in milliseconds; and what such a module's end may be known later by."""


GPU = Slack(
    share=0.05,
    around=0.3,
    done_ms=0.03,
    held_ms=0.08,
    layout=3.0,
    hidden_ms=0.02,
    waking=1.0,
    waking_ms=0.2,
)
"""About twice what honest modules differed by on an H100, with compilers on the other cores."""
CPU = Slack(
    share=2.0,
    around=3.0,
    done_ms=50.0,
    held_ms=50.0,
    layout=3.0,
    hidden_ms=50.0,
    waking=2.0,
    waking_ms=50.0,
)
"""Builds and other work share the cores with both clocks."""
_NEARLY = 0.85
"""What a floor may be missed by: clocks differ a little from process to process."""


@dataclass(frozen=True)
class Seen:
    """What was measured of one module, in milliseconds."""

    turns: Sequence[float]
    """Calls with inputs in the clear, by the worker's clock."""
    spots: Sequence[float]
    """Spot checks, by the worker's clock."""
    done: Sequence[float]
    """Spot checks, by the oracle's clock, until the device was done and the answers written."""
    held: Sequence[float]
    """The same until the oracle held the answers."""
    waited: Sequence[float] = ()
    """Of a module that waits for the device: single calls with inputs in the clear that had to wait
    for as long as a spot check, by the worker's clock."""


def contradiction(mode: str, reference: Seen, candidate: Seen, slack: Slack) -> str | None:
    """What the candidate's clock says that cannot be so; ``None`` where all agrees."""
    if any(done < spot for done, spot in zip(candidate.done, candidate.spots, strict=True)):
        return (
            f"The candidate's process said that it was done with the {mode} sooner after its "
            "inputs were known than its own event clock says that the call took."
        )
    spot = low(candidate.spots)
    copying = least(reference.held, reference.done)
    around = (1 + slack.around) * least(reference.done, reference.spots)
    most = around + slack.layout * copying + slack.share * spot + slack.done_ms
    extra = least(candidate.done, candidate.spots)
    if extra > most:
        return (
            f"The candidate's event clock says {spot:.4g} ms for the {mode}, but its answer was "
            f"written {extra:.4g} ms later than that by the oracle's own clock; {most:.4g} ms is "
            "the most that handing over explains."
        )
    most = (1 + slack.around) * copying + slack.held_ms
    most += slack.waking_ms if candidate.waited else 0.0
    extra = least(candidate.held, candidate.done)
    if extra > most:
        return (
            "The device was still busy when the candidate's process said that it was done with "
            f"the {mode}: the oracle held the answer {extra:.4g} ms later, and {most:.4g} ms is "
            "the most that copying it explains."
        )
    turn = low(candidate.turns)
    drift = max(0.0, low(reference.spots) - low(reference.turns))
    clear = max(turn, low(candidate.waited)) if candidate.waited else turn
    if clear > turn * (1 + slack.waking) + slack.waking_ms:
        return (
            f"The {mode} takes {clear:.4g} ms where the device makes it wait, but {turn:.4g} ms in "
            "a row of calls: work is done outside of the timed calls."
        )
    varies = clear - turn  # the time of a call that waits, by about what waiting costs it
    most = clear * (1 + slack.share) + varies + drift + slack.hidden_ms
    if spot > most:
        return (
            f"The {mode} takes {spot:.4g} ms where its inputs are unknown until it begins, but "
            f"{clear:.4g} ms where they lie there before: work is done outside of the timed calls."
        )
    return None


def impossible(mode: str, milliseconds: float, floor_ms: float, why: str) -> str | None:
    """Whether a call is faster than anything can be."""
    if milliseconds >= _NEARLY * floor_ms:
        return None
    return f"The {mode} claims {milliseconds:.4g} ms, and {why} takes {floor_ms:.4g} ms."


def least(later: Sequence[float], sooner: Sequence[float]) -> float:
    """The least that one clock was later by than another: a busy host only ever adds to it."""
    return max(0.0, min(a - b for a, b in zip(later, sooner, strict=True)))


def low(values: Sequence[float]) -> float:
    """The lower quartile: other work on the machine only ever adds to a clock."""
    return statistics.quantiles(values, n=4)[0] if len(values) > 1 else values[0]
