"""CUDA C++ as tokens: comments and literals masked, macros apart from the code around them.

Every token knows where it stands in the source. Does not: parse, or expand macros; both branches of
an ``#if`` are read but where the outcome is known (see ``_conditions``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.emulation._conditions import holds

_LITERAL = re.compile(
    r"(?P<comment>//(?:\\[ \t]*\r?\n|[^\n])*|/\*.*?(?:\*/|\Z))"
    r'|(?:u8|[uUL])?R(?P<raw>"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)")'
    r"|[A-Za-z_]\w*|\.?\d(?:'?[\w.])*"
    r'|(?P<string>"(?:\\\r?.|[^"\\\n])*"|\'(?:\\\r?.|[^\'\\\n])+\')',
    re.DOTALL,
)
_TOKEN = re.compile(
    r"[A-Za-z_]\w*|\.?\d(?:'?[\w.])*|\"[^\"]*\"|'[^'\n]*'"
    r"|<<<|<<|<=|>=|->|::|##|&&|\|\||\\[ \t]*\r?\n|[^\s\w]"
)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\\\n]|\\[ \t]*\r?\n|\\)*", re.MULTILINE)
_DEFINE = re.compile(r"\s*#\s*define\s+\w+(?P<list>\((?P<parameters>[^)]*)\))?")
_CONDITION = re.compile(
    r"\s*#\s*(?P<kind>ifdef|ifndef|if|elifdef|elifndef|elif|else|endif)\b"
    r"(?P<rest>.*)",
    re.DOTALL,
)
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_OPENS = {")": "(", "]": "[", "}": "{"}
_ALIGNING = frozenset({"__align__", "alignas", "__attribute__", "__declspec"})


class Token(NamedTuple):
    """One token and its place in the source."""

    text: str
    start: int
    end: int

    @property
    def is_name(self) -> bool:
        """Whether it is a name or a keyword."""
        return self.text[0].isalpha() or self.text[0] == "_"


@dataclass(frozen=True)
class Stream:
    """Tokens that belong together: the code outside of directives, or one macro's body."""

    tokens: list[Token]
    is_macro: bool = False
    parameters: frozenset[str] = frozenset()


def mask(source: str) -> str:
    """Blanks out comments, what is within quotes, and what the preprocessor surely takes out.

    Every other character stays in its place.
    """
    code = _LITERAL.sub(_masked, source)
    for start, end in _dead(code):
        code = code[:start] + _blank(code[start:end]) + code[end:]
    return code


def without_comments(source: str) -> str:
    """Blanks out comments only."""
    return _LITERAL.sub(lambda m: _blank(m[0]) if m["comment"] else m[0], source)


def tokens(code: str, start: int = 0, end: int | None = None) -> list[Token]:
    """The tokens of a part of masked code, directives like anything else."""
    found = _TOKEN.finditer(code, start, len(code) if end is None else end)
    return [Token(m[0], m.start(), m.end()) for m in found if not m[0].endswith("\n")]


def streams(code: str) -> list[Stream]:
    """Masked code as its ordinary tokens, then one stream for each ``#define``."""
    plain: list[Token] = []
    macros: list[Stream] = []
    at = 0
    for directive in _DIRECTIVE.finditer(code):
        plain += tokens(code, at, directive.start())
        at = directive.end()
        define = _DEFINE.match(directive[0])
        if define is not None:
            body = tokens(code, directive.start() + define.end(), at)
            macros.append(Stream(body, True, _parameters(define["parameters"])))
    return [Stream(plain + tokens(code, at)), *macros]


def line_of(source: str, offset: int) -> int:
    """The line of a character, counted from 1."""
    return source.count("\n", 0, offset) + 1


def closing(found: Sequence[Token], at: int) -> int | None:
    """The index of the bracket that closes the one at an index."""
    opening_text, closing_text = found[at].text, _CLOSES[found[at].text]
    depth = 0
    for i in range(at, len(found)):
        depth += (found[i].text == opening_text) - (found[i].text == closing_text)
        if depth == 0:
            return i
    return None


def opening(found: Sequence[Token], at: int) -> int | None:
    """The index of the bracket that opens the one at an index."""
    closing_text, opening_text = found[at].text, _OPENS[found[at].text]
    depth = 0
    for i in range(at, -1, -1):
        depth += (found[i].text == closing_text) - (found[i].text == opening_text)
        if depth == 0:
            return i
    return None


def template_end(found: Sequence[Token], at: int) -> int | None:
    """The index of the ``>`` that ends the template arguments opened by the ``<`` at an index."""
    depth, i = 0, at
    while i < len(found):
        text = found[i].text
        if text in _CLOSES:
            end = closing(found, i)
            if end is None:
                return None
            i = end
        elif text in _OPENS or text == ";":
            return None
        else:
            depth += (text == "<") - (text == ">")
            if depth == 0:
                return i
        i += 1
    return None


def template_start(found: Sequence[Token], at: int) -> int | None:
    """The index of the ``<`` that opens the template arguments ended by the ``>`` at an index."""
    depth, i = 0, at
    while i >= 0:
        text = found[i].text
        if text in _OPENS:
            start = opening(found, i)
            if start is None:
                return None
            i = start
        elif text in _CLOSES or text == ";":
            return None
        else:
            depth += (text == ">") - (text == "<")
            if depth == 0:
                return i
        i -= 1
    return None


def enclosing_functions(code: str, found: Sequence[Token]) -> list[int | None]:
    """For each ordinary token, the index of the first token of the function it is in.

    The bodies of namespaces and classes are no functions. Branches of an ``#if`` start alike.
    """
    result: list[int | None] = []
    scopes: list[int | None] = []
    saved: list[list[int | None]] = []
    conditions = _conditions(code)
    statement = 0
    for i, token in enumerate(found):
        while conditions and conditions[0][0] < token.start:
            kind = conditions.pop(0)[1]
            scopes = _condition(kind, scopes, saved)
            statement = i if kind.startswith("el") else statement
        function = _innermost(scopes)
        if token.text == "{":
            if function is None and not _is_transparent(found[statement:i]):
                function = statement
            scopes.append(function)
        elif token.text == "}" and scopes:
            scopes.pop()
        if token.text in "{};" and _innermost(scopes) is None:
            statement = i + 1
        result.append(function)
    return result


def attribute_end(found: Sequence[Token], at: int) -> int | None:
    """The index where the attribute that starts at an index ends; none where there is none."""
    following = found[at + 1].text if at + 1 < len(found) else ""
    if found[at].text in _ALIGNING and following == "(":
        return closing(found, at + 1)
    if found[at].text == "[" and following == "[":
        return closing(found, at)
    return None


def _dead(code: str) -> list[tuple[int, int]]:
    """The places that the preprocessor drops whatever the candidate defines."""
    found: list[tuple[int, int]] = []
    dropped_since = 0
    open_conditions: list[bool | None] = []  # Whether each is met; None where that is not known.
    for directive in _DIRECTIVE.finditer(code):
        condition = _CONDITION.match(directive[0])
        if condition is None:
            continue
        dropped, kind = False in open_conditions, condition["kind"]
        if kind in ("if", "ifdef", "ifndef"):
            open_conditions.append(holds(kind, condition["rest"]))
        elif open_conditions:
            before = open_conditions.pop()
            if kind == "else" and before is not None:
                open_conditions.append(not before)
            elif kind != "endif":
                open_conditions.append(None)
        if not dropped and False in open_conditions:
            dropped_since = directive.end()
        elif dropped and False not in open_conditions:
            found.append((dropped_since, directive.start()))
    return found


def _masked(match: re.Match[str]) -> str:
    if match["comment"]:
        return _blank(match[0])
    literal = match["raw"] or match["string"]
    if not literal:
        return match[0]
    prefix = match[0][: -len(literal)]
    return prefix + literal[0] + _blank(literal[1:-1]) + literal[-1]


def _blank(text: str) -> str:
    """Spaces, but for ends of lines and the backslashes that hide them."""
    return re.sub(r"\\(?![ \t]*\r?\n)|[^\n\\]", " ", text)


def _parameters(listed: str | None) -> frozenset[str]:
    if listed is None:
        return frozenset()
    names = set(re.findall(r"[A-Za-z_]\w*", listed))
    return frozenset(names | {"__VA_ARGS__"} if "..." in listed else names)


def _conditions(code: str) -> list[tuple[int, str]]:
    found = ((m.start(), _CONDITION.match(m[0])) for m in _DIRECTIVE.finditer(code))
    return [(start, match["kind"]) for start, match in found if match is not None]


def _condition(
    kind: str, scopes: list[int | None], saved: list[list[int | None]]
) -> list[int | None]:
    """The open scopes after a directive; those before its ``#if`` again for another branch."""
    if kind in ("if", "ifdef", "ifndef"):
        saved.append(list(scopes))
    elif kind == "endif":
        if saved:
            saved.pop()
    elif saved:
        return list(saved[-1])
    return scopes


def _innermost(scopes: Sequence[int | None]) -> int | None:
    return scopes[-1] if scopes else None


def _is_transparent(header: Sequence[Token]) -> bool:
    """Whether what stands before a brace opens a namespace or a class, not a function."""
    words = _plain_words(header)
    if "namespace" in words:
        return True
    if words and words[0] == "extern" and words[-1].startswith('"'):
        return True
    of_class = not {"struct", "class", "union", "enum"}.isdisjoint(words)
    return of_class and words[-1] not in (")", "const", "noexcept", "override")


def _plain_words(header: Sequence[Token]) -> list[str]:
    """The tokens of a declaration without its template headers and attributes."""
    words: list[str] = []
    i = 0
    while i < len(header):
        end = attribute_end(header, i)
        if header[i].text == "template" and i + 1 < len(header) and header[i + 1].text == "<":
            end = template_end(header, i + 1)
        if end is not None:
            i = end + 1
            continue
        words.append(header[i].text)
        i += 1
    return words
