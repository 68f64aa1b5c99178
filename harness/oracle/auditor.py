"""The audit stage: whether the candidate's own kernels do the work (R04), by every witness.

Where the candidate is probed and where it is clocked: the operators that PyTorch saw (``audit``),
and on a GPU the kernels that the device ran (``work``). After all else: the kernels of the whole
session, and whether results are still right without the candidate's own.

Does not: decide what counts against a candidate (see ``audit`` and ``work``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.launches import Wish
from harness.oracle import audit, work
from harness.oracle.problem import Case, Problem
from harness.oracle.reference import Question
from harness.oracle.session import Session
from harness.oracle.stop import Stop, distinct
from harness.oracle.trials import run as run_trial
from harness.records import (
    Finding,
    GradientPolicy,
    Kernel,
    Origin,
    Severity,
    Stage,
    Verdict,
    WorkPolicy,
)

Ask = Callable[[Case, str], Question]
"""A question of a case for a purpose of its own."""


@dataclass
class Witnessed:
    """What an audit saw that goes into the record."""

    notes: list[Finding] = field(default_factory=list)
    launches: dict[str, int] = field(default_factory=dict)
    """By kernel (emulated device only)."""
    kernels: list[Kernel] = field(default_factory=list)
    """Of the clocked case (GPU only)."""


def examine(
    session: Session,
    problem: Problem,
    ask: Ask,
    policy: WorkPolicy,
    *,
    gradients: bool,
) -> Witnessed:
    """Run forward and backward of two cases under observation.

    Raises:
        Stop: with ``rejected``, if somebody else does the work; or whatever running it raises.
    """
    seen = Witnessed()
    found: list[Finding] = []
    probe, clocked = problem.probe, problem.clocked
    for case in (probe,) if probe is clocked else (probe, clocked):
        session.construct(case, problem)
        question = ask(case, "clock")
        laid = session.lay(question)
        session.write_weights(laid.weights)
        session.reveal_cotangents(laid)
        table = session.launches
        before = table.rows() if table is not None else []
        session.wish(Wish.COUNTED | Wish.TIMED)
        operators, launches = session.audit(laid, gradients=gradients)
        session.wish(Wish.COUNTED)
        seen.launches = seen.launches or launches
        most = audit.largest(question)
        found += audit.findings(operators, most, policy, question.operators)
        if table is not None:
            seen.kernels = work.kernels(table, before)
            found += work.findings(seen.kernels, policy, "A forward and backward")
            if not any(kernel.origin is Origin.OWN for kernel in seen.kernels):
                found.append(audit.no_launch())
    if session.reports is not None and not seen.launches:
        found.append(audit.no_launch())
    _stop_at(found)
    seen.notes = found
    return seen


def look_back(
    session: Session,
    problem: Problem,
    ask: Ask,
    policy: WorkPolicy,
    *,
    gradients: bool,
) -> None:
    """What can only be asked at the end: of all calls so far, and of calls that may break it.

    On the CPU there is nothing to be left out.

    Raises:
        Stop: with ``rejected``, if somebody else does the work.
    """
    if session.launches is not None:
        _stop_at(work.findings(work.kernels(session.launches), policy, "The candidate's calls"))
    elif session.reports is None:
        return
    elif session.operators:  # how much they made is known where they are audited only
        calls = {"candidate": dict.fromkeys(session.operators, 0)}
        _stop_at(audit.findings(calls, 0, policy))
    session.construct(problem.probe, problem)
    differentiate = GradientPolicy.REQUIRED if gradients else GradientPolicy.OFF
    for part in ("forward", "backward")[: 1 + gradients]:
        session.without_own = part
        try:
            right = run_trial(session, ask(problem.probe, part), differentiate).verdict is None
        except Stop:  # without its kernels it may do anything but be right
            return
        finally:
            session.without_own = ""
        if right:
            _stop_at([work.unneeded(part)])


def _stop_at(found: list[Finding]) -> None:
    errors = distinct(f for f in found if f.severity is Severity.ERROR)
    if errors:
        raise Stop(Verdict.REJECTED, Stage.AUDIT, *errors)
