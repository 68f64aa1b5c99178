"""The CUDA sources of the repository's candidates."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from harness.extract import extract

ROOT = Path(__file__).parents[2]
_PLACES = (
    "solutions/*.py",
    "examples/generations/cuda/*",
    "tests/hostile/cuda/*.py",
    "tests/screening/candidates.py",
    "tests/data/real_answer_conv2d.txt",
    "tests/emulation/right/*.py",
    "tests/emulation/bugs/*.py",
)


def cuda_sources() -> dict[str, str]:
    """The CUDA texts of all candidates in the repository, by the name of their file."""
    paths = [path for place in _PLACES for path in sorted(ROOT.glob(place))]
    return {
        f"{path.relative_to(ROOT)}:{line}": text
        for path in paths
        for line, text in _strings(_python(path))
        if "__global__" in text
    }


def _python(path: Path) -> str:
    text = path.read_text()
    return text if path.suffix == ".py" else extract(text).candidate or ""


def _strings(python: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(python)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "ModelNew" in node.value:  # A candidate within a test.
                yield from ((node.lineno + line, text) for line, text in _strings(node.value))
            else:
                yield node.lineno, node.value
