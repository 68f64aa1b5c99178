"""Short ways to write findings of the screening stage. Does not decide anything."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable

from harness.records import Finding, Place, Severity, Stage

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

_MOST_OF_A_RULE = 50
_WEIGHT = {ERROR: 0, WARNING: 1, NOTE: 2}


def finding(
    rule: str,
    severity: Severity,
    at: ast.AST | int | None,
    message: str,
    advice: str,
    *,
    detail: str = "",
) -> Finding:
    """Writes one finding.

    Args:
        rule: A rule of the task or a check of ours.
        severity: How much it weighs.
        at: The syntax node or the candidate's line that it is about, if there is one.
        message: One sentence on what is so.
        advice: One sentence on what to do next.
        detail: Supporting text.
    """
    return Finding(
        rule=rule,
        severity=severity,
        stage=Stage.SCREEN,
        message=message[:4000],
        advice=advice,
        place=_place(at),
        detail=detail,
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then by line; nothing is said twice, and no rule more than 50 times."""
    ordered = sorted(dict.fromkeys(findings), key=lambda f: (_WEIGHT[f.severity], _line(f), f.rule))
    said: Counter[str] = Counter()
    kept = []
    for item in ordered:
        said[item.rule] += 1
        if said[item.rule] <= _MOST_OF_A_RULE:
            kept.append(item)
    return tuple(kept)


def listed(items: Iterable[object]) -> str:
    """Joins for a sentence, cut where there are many."""
    words = [str(item)[:80] for item in items]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def _line(item: Finding) -> int:
    return item.place.line if item.place else 1 << 30


def _place(at: ast.AST | int | None) -> Place | None:
    if at is None:
        return None
    if isinstance(at, int):
        return Place(line=max(at, 1))
    line = getattr(at, "lineno", None)
    if line is None:
        return None
    return Place(line=max(line, 1), column=getattr(at, "col_offset", 0) + 1)
