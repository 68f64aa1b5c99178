"""Python programs in processes of their own, for tests that need a second process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start(program: str, *arguments: object, fds: Sequence[int] = ()) -> subprocess.Popen[str]:
    """Start a program text; it can import ``harness``, and talks through pipes."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path},
        pass_fds=fds,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(program: str, *arguments: object, fds: Sequence[int] = ()) -> str:
    """What a program text prints; it has to end well."""
    with start(program, *arguments, fds=fds) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output
