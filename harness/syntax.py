"""Parses Python, one text at a time.

The interpreter keeps the depth of the tree that it builds in one place for all threads
(CPython issue 106905), so two that parse at once can make each other fail.

Does not: judge what it reads.
"""

from __future__ import annotations

import ast
import threading

_LOCK = threading.Lock()


def parse_module(text: str) -> ast.Module:
    """The tree of a module.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as ``ast.parse``.
    """
    with _LOCK:
        return ast.parse(text)
