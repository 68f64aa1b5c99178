"""A source, the streams of its tokens, and the edits to be made in it.

An edit takes the place of characters; comments, ends of lines and all else stay. Does not: know
what CUDA text means, or which edits it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.emulation._tokens import Stream, Token, line_of


class Untranslatable(Exception):
    """The text cannot be rewritten.

    Args:
        message: What stands in the way.
        line: The line of the source, counted from 1.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


@dataclass
class Text:
    """The source and the edits to be made in it."""

    source: str
    code: str
    edits: list[_Edit] = field(default_factory=list)

    def replace(self, start: int, end: int, text: str) -> None:
        """Puts text in the place of a part of the source."""
        self.edits.append(_Edit(start, end, text))

    def result(self) -> str:
        """The source with its edits made."""
        pieces, at = [], 0
        for edit in sorted(self.edits, key=lambda edit: (edit.start, edit.end)):
            pieces += [self.source[at : edit.start], edit.text]
            at = max(at, edit.end)
        return "".join([*pieces, self.source[at:]])


@dataclass
class Part:
    """One stream of the text, and the ways to change it."""

    text: Text
    stream: Stream

    @property
    def tokens(self) -> list[Token]:
        """The tokens of the stream."""
        return self.stream.tokens

    def is_at(self, index: int, *texts: str) -> bool:
        """Whether the tokens from an index on read so."""
        found = self.tokens[max(index, 0) : max(index, 0) + len(texts)]
        return index >= 0 and tuple(token.text for token in found) == texts

    def replace(self, token: Token, new: str) -> None:
        """Puts text in the place of a token."""
        self.text.replace(token.start, token.end, new)

    def drop(self, first: int, last: int) -> None:
        """Takes tokens out, and leaves comments and ends of lines between them."""
        for token in self.tokens[first : last + 1]:
            self.replace(token, "")

    def insert(self, offset: int, new: str) -> None:
        """Puts text before a character of the source."""
        self.text.replace(offset, offset, new)

    def fail(self, message: str, at: Token) -> Untranslatable:
        """What to raise where a token stands in the way."""
        return Untranslatable(message, line_of(self.text.source, at.start))

    def written(self, found: Sequence[Token]) -> str:
        """Tokens as text on one line."""
        pieces: list[str] = []
        for before, token in zip([None, *found], found):
            if before is not None and _are_apart(before.text, token.text):
                pieces.append(" ")
            pieces.append(self.text.source[token.start : token.end].replace("\n", " "))
        return "".join(pieces)

    def literal(self, found: Sequence[Token]) -> str:
        """Tokens as a string literal; a macro's parameters as what they are given."""
        if not self.stream.is_macro:
            return _quoted(self.written(found))
        pieces: list[str] = []
        plain: list[Token] = []
        for token in found:
            if token.text in self.stream.parameters:
                pieces += [_quoted(self.written(plain))] if plain else []
                pieces.append(f"#{token.text}")
                plain = []
            elif token.text != "##":
                plain.append(token)
        return " ".join([*pieces, _quoted(self.written(plain))] if plain else pieces)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _are_apart(before: str, after: str) -> bool:
    """Whether two tokens need a space between them."""
    words = before[-1].isalnum() or before[-1] == "_", after[0].isalnum() or after[0] == "_"
    return all(words) or before == "," or (before == "<" and after == "::")
