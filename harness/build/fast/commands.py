"""Compiler commands as torch writes them, read back as words.

Does not: run a compiler.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ALONE = ("-MMD", "-MD", "-c")
_WARNING = re.compile(r"-W(?![alp],)|-w$")
_OPTIMIZATION = re.compile(r"-O(?:|[0-3])$")


@dataclass(frozen=True)
class Compile:
    """The command that compiles one unit."""

    words: tuple[str, ...]
    """Without what names its files and asks for dependencies."""
    source: str
    object: str
    cuda: bool

    def to(self, output: str, *, source: str = "", more: Iterable[str] = ()) -> list[str]:
        """The command for another output, with more flags before its own."""
        return [*self.before(more), "-c", source or self.source, "-o", output]

    def before(self, more: Iterable[str]) -> list[str]:
        """The command with more flags before its own."""
        program = 2 if self.words[0].rpartition("/")[2] in ("ccache", "sccache") else 1
        return [*self.words[:program], *more, *self.words[program:]]

    @property
    def identity(self) -> list[str]:
        """What a precompiled header has to have in common with a unit."""
        return identity(self.words[1:])


def compiles(directory: Path) -> list[Compile]:
    """The compilations of the ``build.ninja`` that torch wrote."""
    said = _ninja(directory, "compdb")
    found = []
    for entry in json.loads(said):
        if not entry["file"].endswith((".cpp", ".cc", ".cxx", ".c", ".cu")) or entry[
            "output"
        ].endswith(".so"):
            continue
        words = shlex.split(entry["command"])
        kept = _without_files(words, entry["file"])
        cuda = entry["output"].endswith(".cuda.o")
        found.append(Compile(tuple(kept), entry["file"], entry["output"], cuda))
    return found


def link(directory: Path, library: str) -> list[str]:
    """The command that links the library."""
    return shlex.split(_ninja(directory, "commands", library).splitlines()[-1])


def identity(words: Iterable[str]) -> list[str]:
    """Flags that mean something to the parsed headers, in order; of levels the last one wins."""
    kept, optimization, standard = [], "", ""
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if word in ("-I", "-isystem", "-o", "-x"):
            remaining.pop(0)
        elif word.startswith(("-I", "-DTORCH_EXTENSION_NAME=", "-isystem")) or word in _ALONE:
            continue
        elif _OPTIMIZATION.match(word):
            optimization = word
        elif word.startswith("-std="):
            standard = word
        elif word.startswith("-") and not _WARNING.match(word):
            kept.append(word)
    return [*kept, standard, optimization]


def _without_files(words: list[str], source: str) -> list[str]:
    kept = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if word in ("-MF", "-o"):
            remaining.pop(0)
        elif word not in _ALONE and word != source:
            kept.append(word)
    return kept


def _ninja(directory: Path, tool: str, *arguments: str) -> str:
    done = subprocess.run(
        ["ninja", "-t", tool, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
