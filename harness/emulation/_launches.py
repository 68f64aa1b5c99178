"""Rewrites launches, and the runtime functions that take a kernel.

Each is told the kernel's name; where the text gives a variable, the kernel it was set to. Does
not: check what is launched or with which arguments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.emulation._edits import Part
from harness.emulation._expressions import (
    bare,
    configuration_end,
    first_argument_end,
    operand_start,
    unqualified,
    without_casts,
)
from harness.emulation._tokens import Token, closing

_ARGUMENTS = "emulated_arguments"


# ---- launches ----


def rewrite_launches(part: Part) -> None:
    """Rewrites every ``kernel<<<configuration>>>(arguments)``."""
    for at, token in enumerate(part.tokens):
        if token.text == "<<<" and not part.is_at(at - 1, "operator"):
            _rewrite_launch(part, at)


def _rewrite_launch(part: Part, at: int) -> None:
    tokens, chevrons = part.tokens, part.tokens[at]
    start = operand_start(tokens, at - 1)
    if start is None:
        raise part.fail("cannot read which kernel is launched here", chevrons)
    end = configuration_end(tokens, at)
    last = closing(tokens, end + 3) if end is not None else None
    if end is None or last is None:
        raise part.fail("a launch without its >>>(arguments)", chevrons)
    kernel = tokens[start:at]
    name = part.literal(unqualified(_resolved(part, kernel)))
    part.insert(tokens[start].start, f"::emulated::launch([&](auto&... {_ARGUMENTS}) {{ ")
    part.replace(chevrons, f"({_ARGUMENTS}...); }}, {name}, ")
    part.text.replace(tokens[end].start, tokens[end + 2].end, ")")
    _replace_nulls(part, end + 3, last)


def _replace_nulls(part: Part, first: int, last: int) -> None:
    """Makes each argument ``NULL`` a ``nullptr``: the other is an int where a type is deduced."""
    i = first + 1
    while i < last:
        if part.tokens[i].text in ("(", "[", "{"):
            i = closing(part.tokens, i) or last
        elif part.is_at(i, "NULL"):
            around = part.tokens[i - 1].text + part.tokens[i + 1].text
            if around in ("()", "(,", ",,", ",)"):
                part.replace(part.tokens[i], "nullptr")
        i += 1


# ---- runtime functions that take a kernel ----


def rewrite_runtime_calls(part: Part) -> None:
    """Rewrites every ``cudaLaunchKernel`` and ``cudaFuncSetAttribute``."""
    for at, token in enumerate(part.tokens):
        if token.text not in ("cudaLaunchKernel", "cudaFuncSetAttribute"):
            continue
        if not part.is_at(at + 1, "("):
            continue
        last = first_argument_end(part.tokens, at + 1)
        if last is None or last < at + 2:
            raise part.fail(f"cannot read the arguments of {token.text}", token)
        _rewrite_runtime_call(part, at, last)


def _rewrite_runtime_call(part: Part, at: int, last: int) -> None:
    tokens, function = part.tokens, part.tokens[at]
    argument = tokens[at + 2 : last + 1]
    kernel = without_casts(argument)
    if not kernel:
        raise part.fail(f"cannot read which kernel {function.text} is given", function)
    resolved = _resolved(part, kernel)
    if resolved is not kernel and _is_untyped(part, kernel[0]):
        part.drop(at + 2, last)
        part.insert(argument[0].start, part.written(resolved))
    else:
        part.drop(at + 2, at + 1 + argument.index(kernel[0]))
        part.drop(at + 2 + argument.index(kernel[-1]) + 1, last)
    first = at - 1 if part.is_at(at - 1, "::") and not part.is_at(at - 2, "std") else at
    part.drop(first, at - 1)
    name = part.literal(bare(resolved))
    if function.text == "cudaLaunchKernel":
        part.replace(function, "::emulated::cuda_launch_kernel")
        part.insert(kernel[-1].end, f", {name}")
    else:
        part.replace(function, "::emulated::func_set_attribute")
        part.insert(tokens[at + 1].end, f"{name}, ")


def _is_untyped(part: Part, variable: Token) -> bool:
    """Whether a variable is declared as a ``void*``."""
    pattern = rf"\bvoid\s*(?:const\s*)?\*\s*(?:const\s+)?{variable.text}\s*="
    return re.search(pattern, part.text.code) is not None


# ---- which kernel a variable stands for ----


def _resolved(part: Part, expression: Sequence[Token]) -> Sequence[Token]:
    """The kernel that a variable was set to, where the text says so; else the expression."""
    if len(expression) != 1 or part.stream.is_macro:
        return expression
    return _initializer(part, expression[0]) or expression


def _initializer(part: Part, variable: Token) -> list[Token] | None:
    """The name that a variable was declared with before its use, as in ``auto k = f<float>;``."""
    found: list[Token] | None = None
    for i, token in enumerate(part.tokens):
        if token.start >= variable.start:
            break
        if token.text == variable.text and part.is_at(i + 1, "="):
            found = _kernel_until_semicolon(part, i + 2) if _is_declared(part, i) else None
        elif token.text == variable.text and part.is_at(i + 1, ")", "("):
            # void (*variable)(parameters) = name;
            end = closing(part.tokens, i + 2)
            if part.is_at(i - 1, "*") and end is not None and part.is_at(end + 1, "="):
                found = _kernel_until_semicolon(part, end + 2)
    return found


def _is_declared(part: Part, at: int) -> bool:
    """Whether a variable before a ``=`` is declared there as ``auto`` or ``void*``."""
    words = []
    while at and (part.tokens[at - 1].is_name or part.tokens[at - 1].text in "*&"):
        at -= 1
        words.append(part.tokens[at].text)
    return "auto" in words or ("void" in words and "*" in words)


def _kernel_until_semicolon(part: Part, at: int) -> list[Token] | None:
    end = next((i for i in range(at, len(part.tokens)) if part.tokens[i].text == ";"), at)
    kernel = without_casts(part.tokens[at:end])
    if kernel and operand_start(kernel, len(kernel) - 1) == 0 and kernel[-1].text not in ")]":
        return kernel
    return None
