"""Rewrites CUDA C++ to C++ that calls the emulated device (``native/include/emulated``).

Launches, ``__shared__`` declarations, the runtime functions that take a kernel, and what else g++
does not read. Every token stays on its line, so that a compiler's messages keep their places.
Comments and literals are never touched. Does not: judge the candidate, or know types; what it
cannot rewrite it raises as ``Untranslatable``.
"""

from __future__ import annotations

import re

from harness.emulation._edits import Part, Text, Untranslatable
from harness.emulation._launches import rewrite_launches, rewrite_runtime_calls
from harness.emulation._shared_memory import rewrite_shared_memory
from harness.emulation._tokens import mask, streams

__all__ = ["Untranslatable", "rewrite"]

_UNROLL = re.compile(
    r"^[ \t]*#[ \t]*pragma[ \t]+(?:nounroll|unroll)\b(?:[^\\\n]|\\[ \t]*\r?\n|\\)*", re.MULTILINE
)


def rewrite(source: str) -> str:
    """CUDA C++ as C++, line by line.

    Raises:
        Untranslatable: Something in the text cannot be rewritten.
    """
    code = mask(source)
    text = Text(source, code)
    for stream in streams(code):
        part = Part(text, stream)
        rewrite_launches(part)
        rewrite_shared_memory(part)
        rewrite_runtime_calls(part)
        _rewrite_words(part)
    for pragma in _UNROLL.finditer(code):
        _blank_out(text, pragma.start(), pragma.end())
    return text.result()


def _rewrite_words(part: Part) -> None:
    for at, token in enumerate(part.tokens):
        if token.text == "__noinline__" and not part.is_at(at - 3, "__attribute__", "(", "("):
            part.replace(token, "__attribute__((noinline))")
        elif token.text == "_Pragma" and part.is_at(at + 1, "(") and part.is_at(at + 3, ")"):
            pragma = part.tokens[at + 2]
            said = part.text.source[pragma.start + 1 : pragma.end - 1]
            if re.match(r"\s*(?:no)?unroll\b", said):
                part.drop(at, at + 3)


def _blank_out(text: Text, start: int, end: int) -> None:
    """Takes code out, and leaves comments and ends of lines."""
    for match in re.finditer(r"\S+", text.code[start:end]):
        text.replace(start + match.start(), start + match.end(), " " * len(match[0]))
