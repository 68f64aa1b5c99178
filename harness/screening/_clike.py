"""Small tools for C-like text: comments and strings out, places kept.

Does not parse; ``_cuda`` does.
"""

from __future__ import annotations

import re

_COMMENT = re.compile(
    r"(?P<comment>//(?:\\\n|[^\n])*|/\*.*?(?:\*/|\Z))"
    r'|(?P<raw>R"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)")'
    r'|(?P<string>"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n]){1,8}\')',
    re.DOTALL,
)

_BOUNDS = re.compile(r"\b(?:__launch_bounds__|C10_LAUNCH_BOUNDS_[01-9])\s*\(")


def without_comments(text: str) -> str:
    """Blanks out comments, so that every other character stays in its place."""
    return _COMMENT.sub(lambda m: _blank(m[0]) if m["comment"] else m[0], text)


def code_only(text: str) -> str:
    """Blanks out comments and the contents of strings."""
    return _COMMENT.sub(lambda m: _blank(m[0]), text)


def without_launch_bounds(text: str) -> str:
    """Blanks out ``__launch_bounds__(…)``, whose arguments confuse parsers."""
    for match in reversed(list(_BOUNDS.finditer(text))):
        end = _closing(text, match.end())
        text = text[: match.start()] + _blank(text[match.start() : end]) + text[end:]
    return text


def _closing(text: str, at: int) -> int:
    """The end of a parenthesis whose inside starts at an offset."""
    depth = 1
    while at < len(text) and depth:
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return at


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
