"""Where an expression begins and ends among tokens, and what is left of it without its casts.

Kernels, launch configurations and arguments. Does not: change the text, or know types; what could
be a name is taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.emulation._tokens import Token, closing, opening, template_end, template_start

_NO_OPERANDS = frozenset(
    re.findall(r"\w+", "return else do case goto throw new delete if while for switch not and or")
)
_CASTS = frozenset({"reinterpret_cast", "static_cast", "const_cast"})


def operand_start(tokens: Sequence[Token], at: int) -> int | None:
    """The index of the first token of the postfix expression that ends at an index."""
    start = _primary_start(tokens, at)
    while start:
        before = tokens[start - 1].text
        if before == "template":
            start -= 1
        elif before == "::":
            start -= 1
            if not start or not (_is_operand(tokens[start - 1]) or tokens[start - 1].text == ">"):
                return start
            start = _primary_start(tokens, start - 1)
        elif before in (".", "->", "##"):
            start = _primary_start(tokens, start - 2)
        else:
            return start
    return start


def _primary_start(tokens: Sequence[Token], at: int) -> int | None:
    if at < 0:
        return None
    text = tokens[at].text
    if text == ">":
        start = template_start(tokens, at)
        return start - 1 if start and _is_operand(tokens[start - 1]) else None
    if text in ")]":
        start = opening(tokens, at)
        if start and (text == "]" or _is_operand(tokens[start - 1])):
            return _primary_start(tokens, start - 1)
        return start
    return at if _is_operand(tokens[at]) else None


def _is_operand(token: Token) -> bool:
    return token.is_name and token.text not in _NO_OPERANDS


def configuration_end(tokens: Sequence[Token], at: int) -> int | None:
    """The index of the first of the three ``>`` that end the configuration opened at an index."""
    i = at + 1
    while i < len(tokens):
        text = tokens[i].text
        if text in ("(", "[", "{"):
            end = closing(tokens, i)
            if end is None:
                return None
            i = end
        elif text in (")", "]", "}", ";", "<<<"):
            return None
        elif text == ">":
            length = _run_of_closers(tokens, i)
            if length >= 3 and tokens[i + length].text == "(":
                return i + length - 3
            i += length - 1
        i += 1
    return None


def _run_of_closers(tokens: Sequence[Token], at: int) -> int:
    """How many ``>`` follow each other without a gap; 1 where nothing comes after them."""
    length = 1
    while at + length < len(tokens):
        token = tokens[at + length]
        if token.text != ">" or token.start != tokens[at + length - 1].end:
            return length
        length += 1
    return 1


def first_argument_end(tokens: Sequence[Token], at: int) -> int | None:
    """The index of the last token of the first argument of the list opened at an index."""
    i = at + 1
    while i < len(tokens):
        text = tokens[i].text
        end = None
        if text in ("(", "[", "{"):
            end = closing(tokens, i)
        elif text == "<" and tokens[i - 1].is_name:
            end = template_end(tokens, i)
        elif text in (",", ")", ";"):
            return i - 1
        i = (i if end is None else end) + 1
    return None


def without_casts(found: list[Token]) -> list[Token]:
    """An expression without casts, ``&`` and parentheses around it."""
    while found:
        start, end = _cast(found)
        if not start:
            return found
        found = found[start:end]
    return found


def _cast(found: list[Token]) -> tuple[int, int]:
    """Where the operand lies of the cast, ``&`` or parentheses that an expression is; 0 if none."""
    text = found[0].text
    end = closing(found, 0) if text == "(" else None
    if text == "&":
        return 1, len(found)
    if end == len(found) - 1:
        return 1, end
    if end is not None and "*" in [token.text for token in found[:end]]:
        return end + 1, len(found)
    if text in _CASTS and len(found) > 1:
        return (template_end(found, 1) or -1) + 1, len(found)
    return 0, 0


def bare(kernel: Sequence[Token]) -> Sequence[Token]:
    """A kernel's name without its template arguments."""
    kernel = unqualified(kernel)
    end = next((i for i, token in enumerate(kernel) if token.text == "<"), len(kernel))
    return kernel[:end] if end else kernel


def unqualified(kernel: Sequence[Token]) -> Sequence[Token]:
    """A kernel's name without the namespaces before it."""
    start = 0
    while start + 1 < len(kernel):
        is_scope = kernel[start].is_name and kernel[start + 1].text == "::"
        if not is_scope and kernel[start].text != "::":
            break
        start += 1 + is_scope
    return kernel[start:]
