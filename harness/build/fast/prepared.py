"""What an installation has prepared for shortened builds, as the builder's box reads it.

Does not: prepare anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NOTE = "note.json"
BINDINGS = "bindings.h"
PREFIX = "prefix.h"


@dataclass(frozen=True)
class Variant:
    """Precompiled headers for one language and one set of flags."""

    directory: Path
    identity: list[str]
    """The flags that they were compiled with."""
    macros: Mapping[str, frozenset[str]]
    """Macros that the headers which stand for torch's lack or define otherwise, by header."""
    unusable: str = ""
    """Why this installation cannot use them."""

    @property
    def prefix(self) -> Path | None:
        """Of a CUDA unit's host code: the part that all have in common."""
        path = self.directory / PREFIX
        return path if path.exists() else None

    @classmethod
    def at(cls, directory: Path) -> Variant:
        """What was written there."""
        note = json.loads((directory / NOTE).read_text())
        macros = {name: frozenset(found) for name, found in note["macros"].items()}
        return cls(directory, note["identity"], macros, note["unusable"])


@dataclass(frozen=True)
class Prepared:
    """Everything for one build."""

    shim: Path
    """The headers that stand for torch's."""
    cpp: Variant | None
    cuda: Variant | None
    linker: list[str]
    """Flags that choose a faster linker."""

    @classmethod
    def at(cls, paths: Mapping[str, str | None]) -> Prepared:
        """From the folders that a request names."""
        shim = Path(str(paths["shim"]))
        cpp, cuda = paths["cpp"], paths["cuda"]
        return cls(
            shim,
            Variant.at(Path(cpp)) if cpp else None,
            Variant.at(Path(cuda)) if cuda else None,
            json.loads((shim / NOTE).read_text())["linker"],
        )
