"""Reads what a candidate's docstring says of it: lines of the form ``name: value`` at its end.

Does not: know which names there are.
"""

from __future__ import annotations

import ast
from pathlib import Path

from harness.records import Verdict

ANY = frozenset(Verdict)
"""Every verdict: chance decides."""


def header(path: Path) -> dict[str, str]:
    """The last lines of a candidate's docstring, by name.

    Raises:
        ValueError: there is no docstring, or it does not say first what the candidate does.
    """
    does, last = _parts(path)
    if not does.strip():
        raise ValueError(f"{path}: the docstring does not say what the candidate does")
    pairs = [line.partition(": ") for line in last.splitlines()]
    if not all(colon and value.strip() for _, colon, value in pairs):
        raise ValueError(f"{path}: a line of the header is not of the form 'name: value'")
    return {name.strip(): value.strip() for name, _, value in pairs}


def description(path: Path) -> str:
    """What a candidate's docstring says before those lines, as one line."""
    return " ".join(_parts(path)[0].split())


def verdicts(path: Path, text: str) -> frozenset[Verdict]:
    """Verdicts joined by ``|``; ``any`` stands for all.

    Raises:
        ValueError: a word is no verdict.
    """
    if text == "any":
        return ANY
    try:
        return frozenset(Verdict(word) for word in text.split("|"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parts(path: Path) -> tuple[str, str]:
    """What stands before the header, and the header."""
    text = _docstring(path.read_text(encoding="utf-8"))
    does, _, last = text.rpartition("\n\n")
    return does, last


def _docstring(source: str) -> str:
    """A module's docstring; of a text that is no Python, what stands between its first quotes."""
    try:
        return ast.get_docstring(ast.parse(source)) or ""
    except SyntaxError:
        return source.partition('"""')[2].partition('"""')[0].strip()
