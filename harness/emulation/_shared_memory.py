"""Rewrites ``__shared__`` declarations, and the lambdas that use what they declare.

A variable becomes a reference into the block's memory, or a pointer to its dynamic part. Does not:
lay out that memory or limit it, which the emulated device does when it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.emulation._edits import Part
from harness.emulation._expressions import operand_start
from harness.emulation._tokens import (
    Token,
    attribute_end,
    closing,
    enclosing_functions,
    opening,
    template_end,
)

_STORAGE = frozenset({"__shared__", "static", "extern", "inline", "__device__", "thread_local"})
_QUALIFIERS = frozenset({"const", "volatile", "__restrict__", "__restrict", "restrict"})
_BUILTINS = frozenset(
    re.findall(r"\w+", "bool char short int long float double signed unsigned wchar_t __int128")
)
_CLASSES = frozenset({"struct", "class", "union", "enum"})
_KINDS = _CLASSES | {"typename"}


@dataclass
class _Specifiers:
    """What a declaration says before its first name."""

    first: int
    after: int
    type: str
    alignments: list[str]
    is_extern: bool


@dataclass
class _Declarator:
    """One name of a declaration."""

    name: int
    pointers: str
    dimensions: list[tuple[int, int]]
    """The brackets of each."""
    alignments: list[str]
    after: int


def rewrite_shared_memory(part: Part) -> None:
    """Rewrites every ``__shared__`` declaration, and casts and captures of what it declares."""
    if not any(token.text == "__shared__" for token in part.tokens):
        return
    inside: list[int | None] = [0] * len(part.tokens)
    if not part.stream.is_macro:
        inside = enclosing_functions(part.text.code, part.tokens)
    names: list[tuple[int, str]] = []
    done = 0
    for at, token in enumerate(part.tokens):
        if token.text != "__shared__" or at < done:
            continue
        specifiers = _specifiers(part, at)
        done = specifiers.after
        for declarator in _declarators(part, specifiers):
            name = part.tokens[declarator.name].text
            if inside[at] is not None:
                names.append((declarator.name, name))
            elif specifiers.is_extern:
                _rewrite_casts(part, declarator.after, name)
            _rewrite_declarator(part, specifiers, declarator, inside[at] is not None)
    _rewrite_captures(part, names, inside)


def _specifiers(part: Part, at: int) -> _Specifiers:
    """Reads the specifiers around a ``__shared__``."""
    first = _words_before(part.tokens, at)
    found = _specifiers_from(part, first)
    if found is None:  # As in ``float __shared__ tile[32];``.
        start = operand_start(part.tokens, first - 1)
        if start is not None:
            found = _specifiers_from(part, _words_before(part.tokens, start))
    if found is None:
        raise part.fail("cannot read this __shared__ declaration", part.tokens[at])
    part.drop(found.first, found.after - 1)
    return found


def _words_before(tokens: Sequence[Token], at: int) -> int:
    """The index where the specifiers begin that stand directly before an index."""
    while at:
        text = tokens[at - 1].text
        if text in _STORAGE or text in _QUALIFIERS or text in _BUILTINS or text == "typename":
            at -= 1
            continue
        start = opening(tokens, at - 1) if text in (")", "]") else None
        start = start - 1 if start and text == ")" else start
        if start is None or attribute_end(tokens, start) != at - 1:
            return at
        at = start
    return at


def _specifiers_from(part: Part, first: int) -> _Specifiers | None:
    """Reads specifiers; none where no type is among them."""
    tokens, i, core = part.tokens, first, False
    kept: list[Token] = []
    found = _Specifiers(first, first, "", [], False)
    while i < len(tokens):
        text, end = tokens[i].text, attribute_end(tokens, i)
        if end is not None:
            found.alignments += _alignments(part, i, end)
        elif text in _STORAGE:
            found.is_extern |= text == "extern"
        elif text in _CLASSES and _has_members(tokens, i):
            raise part.fail("a type is defined within a __shared__ declaration", tokens[i])
        elif text in _QUALIFIERS or text in _BUILTINS or text in _KINDS:
            core |= text in _BUILTINS
            kept.append(tokens[i])
        elif core or not (tokens[i].is_name or text == "::"):
            break
        else:
            end = _type_name_end(tokens, i)
            if end is None or (end + 1 < len(tokens) and tokens[end + 1].text in "[,;="):
                return None  # It is the variable.
            core = True
            kept += tokens[i : end + 1]
        i = (i if end is None else end) + 1
    found.after = i
    found.type = part.written(kept)
    return found if core else None


def _has_members(tokens: Sequence[Token], at: int) -> bool:
    texts = [token.text for token in tokens[at : at + 3]]
    return "{" in texts or ":" in texts


def _type_name_end(tokens: Sequence[Token], at: int) -> int | None:
    """The index of the last token of a qualified name, with its template arguments."""
    i = at
    while i < len(tokens):
        i += tokens[i].text == "::"
        if i < len(tokens) and tokens[i].text == "template":
            i += 1
        if i >= len(tokens) or not tokens[i].is_name:
            return None
        following = tokens[i + 1].text if i + 1 < len(tokens) else ""
        if tokens[i].text == "decltype" and following == "(":
            return closing(tokens, i + 1)
        if following == "<":
            end = template_end(tokens, i + 1)
            if end is None:
                return None
            i = end
            following = tokens[i + 1].text if i + 1 < len(tokens) else ""
        if following == "##":
            i += 2
            continue
        if following != "::":
            return i
        i += 1
    return None


def _alignments(part: Part, first: int, last: int) -> list[str]:
    """What an attribute says of alignment, as expressions."""
    tokens = part.tokens[first : last + 1]
    if tokens[0].text == "__align__":
        return [part.written(tokens[2:-1])]
    if tokens[0].text == "alignas":
        argument = part.written(tokens[2:-1])
        return [argument if argument.isdigit() else f"alignas({argument})"]
    found = []
    for i, token in enumerate(tokens[:-1]):
        if token.text in ("aligned", "__aligned__", "align") and tokens[i + 1].text == "(":
            end = closing(tokens, i + 1)
            found.append(part.written(tokens[i + 2 : end]))
    return found


def _declarators(part: Part, specifiers: _Specifiers) -> Iterator[_Declarator]:
    tokens, i = part.tokens, specifiers.after
    while True:
        declarator = _declarator(part, i)
        yield declarator
        i = declarator.after
        if i >= len(tokens) and part.stream.is_macro:
            return
        if part.is_at(i, ";"):
            return
        if not part.is_at(i, ","):
            raise part.fail(
                f"cannot read the __shared__ declaration of {tokens[declarator.name].text}",
                tokens[declarator.name],
            )
        part.replace(tokens[i], ";")
        i += 1


def _declarator(part: Part, first: int) -> _Declarator:
    tokens, i = part.tokens, first
    while i < len(tokens) and (tokens[i].text == "*" or tokens[i].text in _QUALIFIERS):
        i += 1
    if i >= len(tokens) or not tokens[i].is_name:
        raise part.fail("cannot read this __shared__ declaration", tokens[min(i, len(tokens) - 1)])
    pointers = part.written(tokens[first:i])
    part.drop(first, i - 1)
    name = i
    while part.is_at(i + 1, "##"):
        i += 2
    if i != name:
        raise part.fail("the name of a __shared__ variable is pasted together", tokens[name])
    found = _Declarator(name, pointers, [], [], 0)
    i += 1
    while i < len(tokens):
        end = attribute_end(tokens, i)
        if end is not None:
            found.alignments += _alignments(part, i, end)
            part.drop(i, end)
        elif tokens[i].text == "[" and (end := closing(tokens, i)) is not None:
            found.dimensions.append((i, end))
        else:
            break
        i = end + 1
    if i < len(tokens) and tokens[i].text in ("=", "{", "("):
        raise part.fail("initializer not allowed for __shared__ variable", tokens[name])
    found.after = i
    return found


def _rewrite_declarator(
    part: Part, specifiers: _Specifiers, found: _Declarator, in_function: bool
) -> None:
    name = part.tokens[found.name]
    kind = specifiers.type + (f" {found.pointers}" if found.pointers else "")
    if specifiers.is_extern:
        _rewrite_dynamic(part, kind, found, in_function)
        return
    if not in_function:
        raise part.fail("a __shared__ variable outside of all functions", name)
    end = part.tokens[found.after - 1].end
    helpers, alignments = _alignment_values(name.text, specifiers.alignments + found.alignments)
    part.replace(name, f"{helpers}auto& {name.text} = ::emulated::shared_variable<{kind}")
    for opening_bracket, closing_bracket in found.dimensions:
        if closing_bracket - opening_bracket > 2:  # A > within would end the template's arguments.
            part.insert(part.tokens[opening_bracket].end, "(")
            part.insert(part.tokens[closing_bracket].start, ")")
    aligned = "".join(f", {a}" for a in _largest(alignments))
    part.insert(end, f", decltype([] {{}}){aligned}>({part.literal([name])})")


def _alignment_values(name: str, alignments: Sequence[str]) -> tuple[str, list[str]]:
    """Alignments as numbers, after helpers for those that ``alignas`` may give as a type."""
    helpers, values = "", []
    for i, alignment in enumerate(alignments):
        if alignment.startswith("alignas("):
            helper = f"emulated_alignment_{i}_of_{name}"
            helpers += f"struct {alignment} {helper} {{}}; "
            alignment = f"alignof({helper})"
        values.append(alignment)
    return helpers, values


def _largest(alignments: Sequence[str]) -> list[str]:
    """The one alignment of several."""
    if len(alignments) < 2:
        return [f"({alignment})" for alignment in alignments]
    either, *others = alignments
    other = _largest(others)[0]
    return [f"(({either}) > {other} ? ({either}) : {other})"]


def _rewrite_dynamic(part: Part, kind: str, found: _Declarator, in_function: bool) -> None:
    name = part.tokens[found.name]
    if found.dimensions:
        part.drop(*found.dimensions[0])
    end = part.tokens[found.dimensions[-1][1]].end if found.dimensions else name.end
    if not in_function:
        if len(found.dimensions) != 1:
            raise part.fail("cannot read this extern __shared__ declaration", name)
        declared = f"static ::emulated::Dynamic<{kind}> {name.text}"
        part.replace(name, declared)
    elif len(found.dimensions) == 1:
        part.replace(name, f"{kind}* {name.text} = ::emulated::dynamic<{kind}>()")
    else:
        access = "auto*" if found.dimensions else "auto&"
        value = "" if found.dimensions else "*"
        part.replace(name, f"{access} {name.text} = {value}::emulated::dynamic<{kind}")
        part.insert(end, ">()")


def _rewrite_casts(part: Part, first: int, name: str) -> None:
    """Casts of dynamic shared memory declared outside of functions: to its first element.

    There it is an object (``Dynamic``) that gives a pointer, which a cast would not ask for.
    """
    for i in range(first, len(part.tokens)):
        if part.tokens[i].text != name or i + 1 >= len(part.tokens):
            continue
        is_cast = part.is_at(i - 1, ")") or part.is_at(i - 2, ">", "(")
        if is_cast and part.tokens[i + 1].text not in ("[", ".", "->", "("):
            part.replace(part.tokens[i], f"&{name}[0]")


def _rewrite_captures(
    part: Part, names: Sequence[tuple[int, str]], inside: Sequence[int | None]
) -> None:
    """Lambdas capture shared variables by reference.

    Static ones need no capture in CUDA; here they are references, which ``[=]`` would copy.
    """
    tokens = part.tokens
    for at, token in enumerate(tokens):
        if token.text != "[" or not _opens_lambda(tokens, at):
            continue
        end = closing(tokens, at)
        body = _lambda_body(tokens, end) if end is not None else None
        captured = [t.text for t in tokens[at + 1 : end]]
        by_reference = captured[:1] == ["&"] and captured[1:2] in ([], [","])
        if end is None or body is None or by_reference:
            continue
        used = {t.text for t in tokens[body[0] : body[1]]}
        shared = {
            name
            for declared, name in names
            if declared < at and inside[declared] == inside[at] and name in used
        }
        added = ", ".join(f"&{name}" for name in sorted(shared.difference(captured)))
        if added:
            part.insert(tokens[end].start, f", {added}" if captured else added)


def _opens_lambda(tokens: Sequence[Token], at: int) -> bool:
    if at + 1 >= len(tokens) or tokens[at + 1].text == "[":
        return False
    before = tokens[at - 1] if at else None
    if before is None or before.text == "return":
        return True
    return not before.is_name and before.text not in (")", "]", "[", ">")


def _lambda_body(tokens: Sequence[Token], end: int) -> tuple[int, int] | None:
    """The braces of the lambda whose captures end at an index."""
    i = end + 1
    while i < len(tokens) and tokens[i].text != "{":
        if tokens[i].text == "(":
            i = closing(tokens, i) or len(tokens)
        elif tokens[i].text in (";", ",", ")", "]", "}", "="):
            return None
        i += 1
    last = closing(tokens, i) if i < len(tokens) else None
    return (i, last) if last is not None else None
