"""Whether a candidate has the reference's parameters and buffers, by name, shape and dtype.

Does not: construct anything, or look at values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import torch

from harness.arena import name_of
from harness.oracle.problem import Case
from harness.oracle.stop import Stop
from harness.records import Finding, Severity, Stage, Verdict
from harness.wire import Message


def check_state(case: Case, state: Mapping[str, torch.Tensor], found: Sequence[Message]) -> None:
    """Hold what a worker says of its model's state against the reference's.

    Raises:
        Stop: with ``wrong_interface``.
    """
    got = {str(m.get("name"))[:200]: (_shape(m.get("shape")), m.get("dtype")) for m in found}
    wanted = {n: (tuple(tensor.shape), name_of(tensor.dtype)) for n, tensor in state.items()}
    if got != wanted:
        raise Stop(Verdict.WRONG_INTERFACE, Stage.INTERFACE, _state_finding(case, got, wanted))


def _state_finding(
    case: Case,
    got: Mapping[str, tuple[object, object]],
    wanted: Mapping[str, tuple[object, object]],
) -> Finding:
    missing = [n for n in wanted if n not in got]
    extra = [n for n in got if n not in wanted]
    other = [n for n in wanted if n in got and got[n] != wanted[n]]
    parts = []
    if missing:
        parts.append(f"lacks {', '.join(missing)}")
    if extra:
        parts.append(f"has {', '.join(extra)} that the reference has not")
    with contextlib.suppress(IndexError):
        n = other[0]
        parts.append(f"holds {n} as {_describe(got[n])}, the reference as {_describe(wanted[n])}")
    return Finding(
        rule="R02",
        severity=Severity.ERROR,
        stage=Stage.INTERFACE,
        message=f"For case {case.name!r} the candidate's state_dict {' and '.join(parts)}.",
        advice="Keep the reference's parameters and buffers under the same names "
        f"({', '.join(wanted) or 'there are none'}): weights are copied by name.",
    )


def _shape(value: object) -> tuple[object, ...] | None:
    return tuple(value) if isinstance(value, list) else None


def _describe(fact: tuple[object, object]) -> str:
    return f"{fact[1]} of shape {fact[0]}"
