"""Which generation of a directory belongs to which problem.

Tried in this order, for each file:
    1. ``manifest.json`` in the directory: {"files": {"name.md": {"problem": "relu"}}}
    2. KernelBench's file names: ``level_1_problem_56_sample_0_kernel.py`` is the problem
       file ``56_….py`` (below a folder whose name ends in the level, if there are such)
    3. ``<problem>__anything.md``
    4. the name of a folder on the way: ``relu/answer_3.txt``

Does not: read a generation, or execute a problem.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ManifestError
from harness.problems import ProblemFile, find, listing

SUFFIXES = (".md", ".txt", ".py")
MANIFEST = "manifest.json"
_KERNELBENCH = re.compile(r"level_?(?P<level>\d+)_problem_?(?P<problem>\d+)_sample_?\d+")


@dataclass(frozen=True)
class Task:
    """One generation and the problem it answers."""

    path: Path
    name: str
    """Path below the directory, with forward slashes."""
    problem: ProblemFile
    expected: dict[str, str]
    """The verdict that a manifest expects, by kind of device."""


def tasks(directory: Path, problem: str | None = None, problems: Path | None = None) -> list[Task]:
    """Every generation below ``directory`` with its problem, in the order of their names.

    Args:
        directory: Where the generations lie.
        problem: The problem of all of them, where there is only one.
        problems: A directory of problem files in place of the shipped ones.

    Raises:
        ManifestError: there are no generations, or some have no problem; names the first few.
        ProblemError: a problem that is named does not exist or is broken.
    """
    if not directory.is_dir():
        raise ManifestError(f"{directory}: there is no such directory of generations")
    paths = sorted(p for p in directory.rglob("*") if p.is_file() and p.suffix in SUFFIXES)
    if not paths:
        kinds = ", ".join(SUFFIXES)
        raise ManifestError(f"{directory}: no generations ({kinds}) lie here")
    manifest = read_manifest(directory)
    catalogue = _Catalogue(problems)
    found, lost = [], []
    for path in paths:
        name = path.relative_to(directory).as_posix()
        entry = manifest.get(name, {})
        file = catalogue.named(problem or entry.get("problem")) or catalogue.guess(Path(name))
        if file is None:
            lost.append(name)
        else:
            found.append(Task(path, name, file, entry.get("expected", {})))
    if lost:
        shown = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise ManifestError(
            f"{directory}: no problem can be told for {shown}; name it with --problem, in "
            f"{MANIFEST}, in the file's name (relu__1.md) or in its folder's (relu/1.md)"
        )
    return found


def problem_of(path: Path, problems: Path | None = None) -> ProblemFile:
    """The problem that a single file belongs to, by the same rules as in a directory.

    Raises:
        ManifestError: it cannot be told.
    """
    catalogue = _Catalogue(problems)
    entry = read_manifest(path.parent).get(path.name, {})
    found = catalogue.named(entry.get("problem")) or catalogue.guess(
        Path(path.parent.name) / path.name
    )
    if found is None:
        raise ManifestError(
            f"{path}: which problem does it answer? Name it with --problem; "
            "`kernel-harness problems` lists them"
        )
    return found


def read_manifest(directory: Path) -> dict[str, dict[str, Any]]:
    """The entries of a directory's manifest, by file name; none where there is no manifest.

    Raises:
        ManifestError: it is not what a manifest looks like.
    """
    path = directory / MANIFEST
    if not path.exists():
        return {}
    try:
        files = json.loads(path.read_text())["files"]
        entries = {str(name): dict(entry) for name, entry in files.items()}
        for entry in entries.values():
            if not isinstance(entry.get("problem", ""), str):
                raise TypeError(f"the problem {entry['problem']!r} is not a name")
            entry["expected"] = dict(entry.get("expected", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f'{path}: a manifest is {{"files": {{"name": {{"problem": "…"}}}}}}; '
            f"this one is not: {type(error).__name__} {error}"
        ) from error
    return entries


class _Catalogue:
    """The problems that names are looked up in."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        entries = listing(directory)
        self._files = [e for e in entries if isinstance(e, ProblemFile)]

    def named(self, name: str | None) -> ProblemFile | None:
        return find(name, self._directory) if name else None

    def guess(self, name: Path) -> ProblemFile | None:
        """From the file's name, then from its folders, the nearest first."""
        match = _KERNELBENCH.search(name.as_posix())
        if match and (numbered := self._kernelbench(int(match["level"]), int(match["problem"]))):
            return numbered
        candidates = [name.stem.split("__")[0], *reversed(name.parent.parts)]
        for candidate in candidates:
            for file in self._files:
                if file.name == candidate:
                    return file
        return None

    def _kernelbench(self, level: int, number: int) -> ProblemFile | None:
        numbered = [f for f in self._files if re.match(rf"0*{number}(_|$)", f.name)]
        at_level = [f for f in numbered if self._level(f) == level]
        chosen = at_level or [f for f in numbered if self._level(f) is None]
        return chosen[0] if len(chosen) == 1 else None

    def _level(self, file: ProblemFile) -> int | None:
        """The number that the folder's name ends in; the directory's own has to be a level."""
        folder = file.path.parent
        own = folder == self._directory
        match = re.search(r"level[_-]?(\d+)$" if own else r"(\d+)$", folder.name)
        return int(match[1]) if match else None
