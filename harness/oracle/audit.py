"""Rule R04 on what was seen at run time: the candidate's own kernels do the work.

Between inputs and outputs a candidate may allocate, view, reshape and copy;
everything that computes must be its own. The list of operators comes from the
worker, so an honest wrapper is found and a hostile one can hide: see
``docs/threat_model.md`` for what that leaves open.

Does not: run anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.records import Finding, Severity, Stage

ALLOWED = frozenset(
    (
        "alias", "arange", "as_strided", "clone", "contiguous", "copy_", "detach", "detach_",
        "diagonal", "empty", "empty_like", "empty_permuted", "empty_strided", "expand",
        "fill", "fill_", "flatten", "full", "full_like", "is_pinned", "item",
        "_local_scalar_dense", "lift_fresh", "narrow", "new_empty", "new_empty_strided",
        "new_full", "new_ones", "new_zeros", "ones", "ones_like", "permute", "pin_memory",
        "_pin_memory", "record_stream", "_reshape_alias", "reshape", "resize_",
        "scalar_tensor", "select", "set_", "slice", "split", "split_with_sizes", "squeeze",
        "stack", "t", "_to_copy", "to", "transpose", "unbind", "unfold", "_unsafe_view",
        "unsqueeze", "view", "view_as_real", "view_as_complex", "zero_", "zeros",
        "zeros_like", "cat", "chunk", "is_same_size", "equal", "resolve_conj", "resolve_neg",
    )
)  # fmt: skip
"""Operators that allocate, view, reshape, copy or compare for checks."""
TOLERATED = frozenset({"sum", "add_", "add", "mul_", "mul", "sum_to_size"})
"""Operators that compute, but little: reported, not held against the candidate (a bias gradient
by ``sum``, autograd's own accumulation)."""


def findings(operators: dict[str, list[str]]) -> list[Finding]:
    """What the operators of one forward and backward say about R04."""
    found = []
    for part, names in operators.items():
        computing = sorted({_base(n) for n in names if n.startswith("aten::")} - ALLOWED)
        heavy = [n for n in computing if n not in TOLERATED]
        if heavy:
            found.append(_finding(part, heavy, Severity.ERROR))
        elif computing:
            found.append(_finding(part, computing, Severity.NOTE))
    return found


def _base(name: str) -> str:
    """``sum`` for ``aten::sum.dim_IntList``."""
    return name.removeprefix("aten::").split(".")[0]


def _finding(part: str, names: Iterable[str], severity: Severity) -> Finding:
    listed = ", ".join(f"aten::{n}" for n in names)
    return Finding(
        rule="R04",
        severity=severity,
        stage=Stage.AUDIT,
        message=f"The {part} computes with PyTorch's own operators: {listed}.",
        advice="Everything between inputs and outputs that computes is to be a kernel of your own.",
    )
