"""KernelBench as a peer: what it needs in order to be called here, and how its process is started.

Its code is called where it lies and never changed. Of the packages that it imports at module
level, three are for talking to language models and to a cloud (``openai``, ``litellm``,
``modal``); evaluation on a local GPU never calls them. Where they are not installed, empty
stand-ins are put on its path: its imports are then shorter than a full installation's, which
is to its advantage, and every result says which stand-ins there were.

Does not: judge, or build anything itself.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from harness.devices import gpus, torch_cuda

NEEDED = ("torch", "numpy", "pydantic", "requests", "tqdm", "dotenv", "setuptools")
"""What its evaluation imports, by module."""
NEEDED_BY_SCRIPTS = (*NEEDED, "pydra", "yaml", "dill")
"""What its scripts import besides."""
NEVER_CALLED = ("openai", "litellm", "modal")
"""What it imports and a local evaluation does not use."""
ARCHITECTURES = {7: "Turing", 8: "Ampere", 9: "Hopper", 10: "Blackwell", 12: "Blackwell"}
"""Its names of architectures, by the first number of the compute capability."""

_STAND_IN = '''"""An empty stand-in: evaluation never calls this package."""


class _Anything:
    def __getattr__(self, name):
        return self

    def __call__(self, *arguments, **options):
        return self


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Anything()
'''


def check(path: Path, *, scripts: bool = False) -> None:
    """End with one sentence where KernelBench cannot be called.

    Args:
        path: Its top directory.
        scripts: Whether its scripts are to run too.
    """
    if not (path / "src" / "kernelbench" / "eval.py").is_file():
        sys.exit(f"{path}: KernelBench does not lie here (there is no src/kernelbench/eval.py)")
    wanted = NEEDED_BY_SCRIPTS if scripts else NEEDED
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        sys.exit(f"KernelBench needs these modules, which are not installed: {', '.join(missing)}")
    if not (gpus() and torch_cuda()):
        sys.exit("KernelBench evaluates on a GPU only: here is no GPU, or torch cannot use it")


def environment(path: Path, folder: Path) -> dict[str, str]:
    """The environment of its processes; the stand-ins are written below ``folder``."""
    made = folder / "stand_ins"
    made.mkdir(parents=True, exist_ok=True)
    for name in stand_ins():
        (made / f"{name}.py").write_text(_STAND_IN)
    paths = [str(path / "src"), str(made), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
    }


def stand_ins() -> list[str]:
    """The packages that a stand-in takes the place of."""
    return [name for name in NEVER_CALLED if importlib.util.find_spec(name) is None]


def architecture() -> str:
    """The first GPU's architecture by KernelBench's name."""
    major, minor = gpus()[0].capability
    return "Ada" if (major, minor) == (8, 9) else ARCHITECTURES[major]


def describe(path: Path) -> dict[str, object]:
    """Which KernelBench this is, for a result."""
    note = path / "COMMIT"
    if note.is_file():
        commit = note.read_text().strip()
    else:
        command = ["git", "-C", str(path), "rev-parse", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {"commit": commit, "stand_ins": stand_ins()}
