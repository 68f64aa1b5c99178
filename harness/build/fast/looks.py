"""What a preprocessor sees of a unit: the files that it includes, the macros that it ends with.

Does not: compile, or decide which headers are used.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import PreparationFault

_CASTER = re.compile(rb"\btype_caster<")
_INCLUDED = re.compile(r"^\.+ (\S.*)$", re.MULTILINE)
_DEFINED = re.compile(r"^#define (\w+)(?:\([^)]*\))?(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Look:
    """What a preprocessor saw."""

    files: frozenset[str]
    macros: dict[str, str]

    def macros_unlike(self, other: Look) -> list[str]:
        """Macros that one has and the other has not, or has otherwise."""
        names = self.macros.keys() | other.macros.keys()
        return sorted(n for n in names if self.macros.get(n) != other.macros.get(n))

    def beyond(self, stock: Look, ours: Path) -> str:
        """What is read here and not by a stock build, in words; ``ours`` holds our own headers.

        A unit that forgot an include would compile here and not there.
        """
        own = tuple({str(ours), str(ours.resolve())})
        # Of two files alike, a compiler reads the first one that says "#pragma once".
        alike = {(os.path.basename(f), os.path.getsize(f)) for f in stock.files}
        more = [
            f
            for f in self.files - stock.files
            if not f.startswith(own) and (os.path.basename(f), os.path.getsize(f)) not in alike
        ]
        return f"torch does not bring {min(more)}" if more else ""

    def lacks_casters(self, stock: Look) -> str:
        """A caster between C++ and Python that only a stock build has, in words.

        It would be missed when the function is called, not when it is compiled.
        """
        missing = [f for f in stock.files - self.files if _CASTER.search(Path(f).read_bytes())]
        return f"casters of {min(missing)} would be missing" if missing else ""

    @property
    def standard(self) -> list[str]:
        """The headers of the standard library, as one includes them."""
        roots = {os.path.dirname(f) for f in self.files if os.path.basename(f) == "vector"}
        found = {os.path.basename(f) for f in self.files if os.path.dirname(f) in roots}
        return sorted(name for name in found if not name.startswith("_"))


def look(words: Sequence[str], source: Path, *, cwd: Path | None = None) -> Look:
    """Preprocess ``source`` with the words of a compilation.

    Raises:
        PreparationFault: the preprocessor failed.
    """
    flags = [w for w in words if w not in ("-E", "-c")]
    command = [*flags, "-E", "-dM", "-H", "-x", "c++", str(source)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PreparationFault(f"{shlex.join(command)[:300]}\n{done.stderr[-2000:]}")
    base = cwd or Path.cwd()
    files = frozenset(os.path.realpath(base / f) for f in _INCLUDED.findall(done.stderr))
    return Look(files, {name: value.strip() for name, value in _DEFINED.findall(done.stdout)})
