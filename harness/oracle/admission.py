"""Asks a problem's own trials of the dummies, and counts what each gets away with.

The trials are those of a judgement: every case and draw, with the same budgets.

Does not: decide what that means (see ``harness.admission``).
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.oracle.draws import Draw
from harness.oracle.dummies import Asked, dummies
from harness.oracle.reference import Reference
from harness.oracle.trials import judge_gradients, judge_outputs
from harness.records import Tf32Policy
from harness.wire import Message


def examine(
    trials: Iterable[tuple[Reference, Draw]], tf32: Tf32Policy, *, gradients: bool
) -> list[Message]:
    """Each dummy's name, what it must do, and in how many trials it answered and passed.

    Raises:
        ProblemError: the reference fails.
    """
    known = list(dummies(tf32))
    tried, passed = [0] * len(known), [0] * len(known)
    for seed, (reference, draw) in enumerate(trials, 1):
        question = reference.ask(draw, seed, gradients=gradients)
        other = reference.ask(draw, -seed, gradients=gradients)
        if question is None or other is None:
            continue
        asked = Asked(reference, question, other)
        for at, dummy in enumerate(known):
            answer = dummy.answer(asked)
            if answer is None or any(t.numel() == 0 for t in answer[0]):
                continue
            compared = judge_outputs(question, answer[0]) + judge_gradients(question, answer[1])
            tried[at] += 1
            passed[at] += all(found.passed for found in compared)
    return [
        {"name": d.name, "must": d.must, "trials": t, "passed": p}
        for d, t, p in zip(known, tried, passed, strict=True)
    ]
