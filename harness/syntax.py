"""Parses Python, whatever else the process is doing.

The interpreter keeps the depth of the tree that it builds in one place for all threads
(CPython issue 106905), so two that parse at once can make each other fail. Ours take
turns; a library's cannot be told to, so a failure of that kind is tried again after a
moment. Texts of models are parsed in processes of one thread (``reader``), where none of this
happens; problem files are parsed where anybody's threads may be.

Does not: judge what it reads.
"""

from __future__ import annotations

import ast
import contextlib
import threading
import time

_LOCK = threading.Lock()
_TRIES, _PAUSE_SECONDS = 400, 0.005
"""Two seconds: more than a thread that is held up in the middle of a text takes to go on."""


def parse_module(text: str) -> ast.Module:
    """The tree of a module.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as ``ast.parse``.
    """
    with _LOCK:
        for _ in range(_TRIES):
            with contextlib.suppress(SystemError):
                return ast.parse(text)
            time.sleep(_PAUSE_SECONDS)
        return ast.parse(text)
