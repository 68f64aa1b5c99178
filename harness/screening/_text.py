"""Text that knows, line by line, where it stands in the candidate.

CUDA source is a string in a Python file; this resolves string expressions (names, implicit
and explicit concatenation, escapes, f-strings, ``.strip()``, ``"".join``, lists) without
running anything, and keeps the candidate's line of every line. What cannot be resolved
leaves the text inexact. Does not judge.
"""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
from collections.abc import Callable
from dataclasses import dataclass

UNKNOWN = "UNRESOLVED_PART"
"""Stands in an inexact text for a part that could not be resolved."""

_MAX_DEPTH = 40
_MAX_SIZE = 1 << 20
"""Characters of all texts that are resolved, and looked up: forty names, each bound to twice
the one before, would be a million million."""
_STRING = re.compile(r"(?P<prefix>[A-Za-z]*)(?P<quote>'''|\"\"\"|'|\")", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:\n|[0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|.)", re.DOTALL
)


@dataclass(frozen=True)
class Text:
    """A text and the candidate's line of each of its lines."""

    value: str
    lines: tuple[int, ...]
    exact: bool = True

    def line(self, index: int) -> int:
        """The candidate's line of a line of this text, counted from 0."""
        return self.lines[min(max(index, 0), len(self.lines) - 1)]

    def line_at(self, offset: int) -> int:
        """The candidate's line of a character of this text."""
        return self.line(self.value.count("\n", 0, offset))

    def __add__(self, other: Text) -> Text:
        """Joins two texts; a line made of both counts as the one that adds more to it."""
        if not self.value:
            return Text(other.value, other.lines, self.exact and other.exact)
        joint = other.lines[0] if self.value.endswith("\n") else self.lines[-1]
        return Text(
            self.value + other.value,
            (*self.lines[:-1], joint, *other.lines[1:]),
            self.exact and other.exact,
        )

    def changed(self, value: str) -> Text:
        """The same places with another value; inexact places where lines were added or lost."""
        count = value.count("\n") + 1
        lines = (self.lines + (self.lines[-1],) * count)[:count]
        return Text(value, lines, self.exact)

    def stripped(self, how: Callable[[str], str]) -> Text:
        """Applies one of the strip methods and drops the lines it took from the start."""
        value = how(self.value)
        start = self.value.find(value) if value else 0
        skipped = self.value.count("\n", 0, start)
        return Text(value, self.lines[skipped:] or self.lines[-1:], self.exact).changed(value)


def unknown(line: int) -> Text:
    """The text of an expression that cannot be resolved."""
    return Text(UNKNOWN, (line,), exact=False)


class Resolver:
    """Resolves string expressions of a candidate.

    Args:
        source: The candidate's text.
        lookup: Gives the expressions a name is bound to at a node (none: not known).
    """

    def __init__(self, source: str, lookup: Callable[[str, ast.AST], list[ast.expr]]) -> None:
        self._source = source.split("\n")
        self._lookup = lookup
        self._spent = 0

    def texts(self, node: ast.expr | None, depth: int = 0) -> list[Text]:
        """The texts of a string, or of a list or tuple of strings."""
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return []
        if self._spent > _MAX_SIZE:
            return [unknown(node.lineno)]
        if isinstance(node, ast.List | ast.Tuple):
            return [text for item in node.elts for text in self.texts(item, depth + 1)]
        if isinstance(node, ast.Name) and depth < _MAX_DEPTH:
            bound = self._lookup(node.id, node)
            if len(bound) == 1:
                return self.texts(bound[0], depth + 1)
        return [self.text(node, depth)]

    def text(self, node: ast.expr, depth: int = 0) -> Text:
        """The text of a string expression; inexact where it cannot be resolved."""
        if depth > _MAX_DEPTH or self._spent > _MAX_SIZE:
            text = unknown(node.lineno)
        else:
            text = self._resolved(node, depth)
        self._spent += len(text.value)
        return text

    def _resolved(self, node: ast.expr, depth: int) -> Text:
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.JoinedStr):
            return self._literal(node, depth)
        if isinstance(node, ast.BinOp):
            return self._operation(node, depth)
        if isinstance(node, ast.Call):
            return self._call(node, depth)
        if isinstance(node, ast.Name):
            bound = self._lookup(node.id, node)
            if bound:
                # One plain assignment, then any number of ``+=``.
                text = self.text(bound[0], depth + 1)
                for more in bound[1:]:
                    text = text + self.text(more, depth + 1)
                return text
        return unknown(node.lineno)

    def _constant(self, node: ast.Constant) -> Text:
        if isinstance(node.value, str):
            return self._literal(node, 0)
        if isinstance(node.value, int | float):
            return Text(str(node.value), (node.lineno,))
        return unknown(node.lineno)

    def _operation(self, node: ast.BinOp, depth: int) -> Text:
        left = self.text(node.left, depth + 1)
        if isinstance(node.op, ast.Add):
            return left + self.text(node.right, depth + 1)
        return Text(left.value, left.lines, exact=False)

    def _call(self, node: ast.Call, depth: int) -> Text:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name == "dedent" and node.args:
            inner = self.text(node.args[0], depth + 1)
            return inner.changed(textwrap.dedent(inner.value))
        if not isinstance(node.func, ast.Attribute):
            return unknown(node.lineno)
        if name == "join" and len(node.args) == 1:
            return self._join(node.func.value, node.args[0], depth)
        base = self.text(node.func.value, depth + 1)
        if name in ("strip", "lstrip", "rstrip") and not node.args:
            return base.stripped(getattr(str, name))
        constants = [a.value for a in node.args if isinstance(a, ast.Constant)]
        strings = [c for c in constants if isinstance(c, str)]
        if name == "replace" and len(node.args) == 2 and len(strings) == 2:
            return base.changed(base.value.replace(strings[0], strings[1]))
        if name in ("format", "replace", "substitute", "safe_substitute"):
            return Text(base.value, base.lines, exact=False)
        return unknown(node.lineno)

    def _join(self, separator: ast.expr, items: ast.expr, depth: int) -> Text:
        between = self.text(separator, depth + 1)
        total = Text("", (items.lineno,))
        for index, part in enumerate(self.texts(items, depth + 1)):
            here = Text(between.value, (part.lines[0],) * len(between.lines), between.exact)
            total = total + here + part if index else part
        return total

    def _literal(self, node: ast.Constant | ast.JoinedStr, depth: int) -> Text:
        """The text of one or several adjacent string literals."""
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        lines = [line.encode("utf-8") for line in self._source[node.lineno - 1 : end_line]]
        lines[-1] = lines[-1][:end_column]
        lines[0] = lines[0][node.col_offset :]
        segment = b"\n".join(lines).decode("utf-8", "replace")
        total: Text | None = None
        for string, line in _string_tokens(segment):
            part = self._one_literal(string, node.lineno + line, node, depth)
            total = part if total is None else total + part
        if total is None:
            value = node.value if isinstance(node, ast.Constant) else UNKNOWN
            return Text(str(value), (node.lineno,) * (str(value).count("\n") + 1), False)
        if isinstance(node, ast.Constant) and total.value != node.value:
            return total.changed(str(node.value))
        return total

    def _one_literal(self, string: str, line: int, node: ast.expr, depth: int) -> Text:
        match = _STRING.match(string)
        if match is None:
            return unknown(line)
        prefix, quote = match["prefix"].lower(), match["quote"]
        body = string[match.end() : -len(quote)]
        return self._body(body, line, node, depth, raw="r" in prefix, formatted="f" in prefix)

    def _body(
        self, body: str, line: int, node: ast.expr, depth: int, *, raw: bool, formatted: bool
    ) -> Text:
        value: list[str] = []
        lines, exact, at, row = [line], True, 0, ""
        while at < len(body):
            piece, length = body[at], 1
            escape = None if raw else _ESCAPE.match(body, at)
            if escape is not None:
                length = len(escape[0])
                piece = _unescape(escape[0])
            elif formatted and piece in "{}":
                if body[at : at + 2] == piece * 2:
                    length = 2
                else:
                    length = _length_of_field(body, at)
                    found = self._field(body[at + 1 : at + length - 1], node, depth)
                    piece, exact = found.value, exact and found.exact
            line += body.count("\n", at, at + length)
            lines += [line] * piece.count("\n")
            if not piece and not row:
                lines[-1] = line  # A backslash at the end of a line that held nothing else.
            row = "" if piece.endswith("\n") else row + piece
            value.append(piece)
            at += length
        return Text("".join(value), tuple(lines), exact)

    def _field(self, source: str, node: ast.expr, depth: int) -> Text:
        """The value of a replacement field of an f-string, if it is a known name."""
        name = source.strip()
        if name.isidentifier():
            bound = self._lookup(name, node)
            if len(bound) == 1:
                return self.text(bound[0], depth + 1)
        return unknown(node.lineno)


def _string_tokens(segment: str) -> list[tuple[str, int]]:
    """The string literals of a piece of source, each with its line from 0."""
    found: list[tuple[str, int]] = []
    start: tuple[int, int] | None = None
    rows = segment.split("\n")
    try:
        # In parentheses, so that literals on several lines are one expression.
        for token in tokenize.generate_tokens(io.StringIO(f"(\n{segment}\n)").readline):
            kind = tokenize.tok_name[token.type]
            if kind == "STRING":
                found.append((token.string, token.start[0] - 2))
            elif kind == "FSTRING_START":  # Python 3.12 and later split f-strings up.
                start = start or token.start
            elif kind == "FSTRING_END" and start is not None:
                found.append((_between(rows, start, token.end), start[0] - 2))
                start = None
    except (tokenize.TokenError, SyntaxError):
        return []
    return found


def _between(rows: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    part = rows[start[0] - 2 : end[0] - 1]
    part[-1] = part[-1][: end[1]]
    part[0] = part[0][start[1] :]
    return "\n".join(part)


def _unescape(escape: str) -> str:
    try:
        value = ast.literal_eval(f'"{escape}"' if escape != '\\"' else "'\"'")
    except (SyntaxError, ValueError):
        return escape
    return str(value)


def _length_of_field(body: str, start: int) -> int:
    """The length of a replacement field, braces included."""
    depth = 0
    for at in range(start, len(body)):
        depth += {"{": 1, "}": -1}.get(body[at], 0)
        if depth == 0:
            return at - start + 1
    return max(len(body) - start, 1)
