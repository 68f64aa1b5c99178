"""Conditions of the preprocessor whose outcome on the emulated device is known beforehand.

Those on ``__CUDA_ARCH__`` are: the device has one architecture, and host and device code are one
pass. It is one of a family and has no features of an architecture's own (as sm_90 has not what
sm_90a has). Does not: know what a candidate or a header defines.
"""

from __future__ import annotations

import ast
import operator
import re

ARCHITECTURE = 900
"""``__CUDA_ARCH__`` of the emulated device, as its headers define it."""

_DEFINED = re.compile(r"\bdefined\s*(?:\(\s*(?P<within>\w+)\s*\)|(?P<plain>\w+))")
_NOT_OF_A_COMPARISON = re.compile(r"!\s*\w+\s*[=<>!]")
"""C negates before it compares, Python the other way round."""
_COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def holds(kind: str, condition: str) -> bool | None:
    """Whether an ``#if``, ``#ifdef`` or ``#ifndef`` is met; None where that is not known."""
    if kind != "if":
        defined = _is_defined(condition.strip())
        return defined if kind == "ifdef" or defined is None else not defined
    text = _DEFINED.sub(_defined, condition)
    if _NOT_OF_A_COMPARISON.search(text):
        return None
    text = re.sub(r"!(?!=)", " not ", text.replace("&&", " and ").replace("||", " or "))
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return None if value is None else bool(value)


def _is_defined(name: str) -> bool | None:
    if name.startswith("__CUDA_ARCH_FEAT_"):
        return False
    return True if name == "__CUDA_ARCH__" else None


def _defined(match: re.Match[str]) -> str:
    found = _is_defined(match["within"] or match["plain"])
    return "unknown" if found is None else str(int(found))


def _value(node: ast.expr) -> int | None:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id="__CUDA_ARCH__"):
            return ARCHITECTURE
        case ast.Name(id=name) if name.startswith("__CUDA_ARCH_FEAT_"):
            return 0
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            negated = _value(operand)
            return None if negated is None else int(not negated)
        case ast.BoolOp(op=op, values=values):
            return _joined([_value(v) for v in values], isinstance(op, ast.Or))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            one, other = _value(left), _value(right)
            if one is None or other is None:
                return None
            return int(_COMPARISONS[type(op)](one, other))
        case _:
            return None


def _joined(values: list[int | None], any_will_do: bool) -> int | None:
    """What ``&&`` or ``||`` makes of values, some of which are not known."""
    known = [bool(v) for v in values if v is not None]
    if any_will_do in known:
        return int(any_will_do)
    return None if None in values else int(not any_will_do)
