"""Folders that an installation prepares once: named by what they depend on, whole or absent.

A preparation is made complete in a temporary folder and renamed into place: two processes may
prepare at once, and a change of anything that is in the name prepares anew.

Does not: know what is prepared, or import torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from filelock import FileLock

from harness.errors import PreparationFault, UsageError


def once(root: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``name`` below ``root``, filled by ``make`` unless that was done before.

    Raises:
        PreparationFault: a tool failed on our own sources.
    """
    folder = root / name
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        if folder.is_dir():
            return folder
        scratch = Path(tempfile.mkdtemp(dir=root, prefix=".new-"))
        try:
            make(scratch)
            scratch.chmod(0o755)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def digest(files: Iterable[Path], base: Path, *texts: str) -> str:
    """A short name for the contents of files, their names below ``base``, and texts."""
    made = hashlib.sha256()
    for path in sorted(files):
        made.update(str(path.relative_to(base)).encode() + b"\0" + path.read_bytes())
    for text in texts:
        made.update(text.encode() + b"\0")
    return made.hexdigest()[:20]


def run(command: list[str], *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool on our own sources.

    Raises:
        PreparationFault: it failed, with what it said.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PreparationFault(
            f"preparing this installation failed: {' '.join(command)[:300]}\n"
            f"{(done.stdout + done.stderr)[-4000:]}"
        )
    return done


@cache
def torch_folder() -> Path:
    """Where torch is installed, without importing it.

    Raises:
        UsageError: it is not.
    """
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise UsageError("torch is not installed")
    return Path(found.origin).parent


def torch_build() -> str:
    """What tells one build of torch from another."""
    return f"{torch_folder()}\n{(torch_folder() / 'version.py').read_text()}"


@cache
def version_of(program: str | None) -> str:
    """What a compiler says of itself, or ``none``."""
    path = shutil.which(program) if program else None
    if path is None:
        return "none"
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return f"{Path(path).name} {done.stdout.strip()}"
