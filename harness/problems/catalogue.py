"""Finds problem files and says whether each one has the parts that the format requires.

Reads the source with ``ast``; does not execute it, and does not import torch.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from harness.errors import ProblemError
from harness.resources import bundled
from harness.syntax import parse_module

Word = TypeVar("Word", bound=StrEnum)
REQUIRED = ("Model", "get_inputs", "get_init_inputs")


@dataclass(frozen=True)
class ProblemFile:
    """A problem's source, as it lies on disk."""

    name: str
    """The file's stem."""
    path: Path
    """Where it lies."""
    source: str
    """Its text."""

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def summary(self) -> str:
        """First line of the module's docstring, or of its ``Model``'s, or nothing."""
        tree = parse_module(self.source)
        models = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Model"]
        texts = [ast.get_docstring(tree), *map(ast.get_docstring, models)]
        text = next(filter(None, texts), "").strip()
        return text.splitlines()[0] if text else ""

    @property
    def cases(self) -> int:
        """How many small cases the file declares next to its headline case."""
        value = self._assigned("CASES")
        return len(value.keys) if isinstance(value, ast.Dict) else 0

    def policy(self, name: str, kind: type[Word], default: Word) -> Word:
        """A module-level word of a closed vocabulary.

        Raises:
            ProblemError: it is another word.
        """
        value = self.declared(name, default)
        try:
            return kind(value)
        except ValueError as error:
            allowed = ", ".join(kind)
            raise ProblemError(f"{self.path}: {name} is {value!r}; choose {allowed}") from error

    def declared(self, name: str, default: str) -> str:
        """A module-level string constant, or ``default`` where there is none."""
        value = self._assigned(name)
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
        return default

    def _assigned(self, name: str) -> ast.expr | None:
        """What is assigned to a name at module level."""
        for node in parse_module(self.source).body:
            if isinstance(node, ast.Assign):
                targets = node.targets
            elif isinstance(node, ast.AnnAssign):
                targets = [node.target]
            else:
                continue
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                return node.value
        return None

    @classmethod
    def read(cls, path: Path) -> ProblemFile:
        """Read one file and check that the parts of the format are there.

        Raises:
            ProblemError: naming the file and what is missing.
        """
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ProblemError(f"{path}: the problem file cannot be read: {error}") from error
        try:
            tree = parse_module(source)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            where = f", line {line}" if line else ""
            raise ProblemError(
                f"{path}{where}: the problem file is not valid Python: "
                f"{getattr(error, 'msg', error)}"
            ) from error
        missing = [part for part in REQUIRED if part not in _bound_names(tree)]
        if missing:
            raise ProblemError(
                f"{path}: a problem file defines {', '.join(REQUIRED)}; "
                f"this one lacks {' and '.join(missing)}"
            )
        return cls(path.stem, path, source)


def _bound_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            names.update(a.asname or a.name for a in node.names)
    return names


def find(problem: str, directory: Path | None = None) -> ProblemFile:
    """The problem that ``problem`` names: a path, or a name below ``directory`` (or shipped).

    Raises:
        ProblemError: there is none, with the names that exist; or several; or it is broken.
    """
    as_path = Path(problem)
    if as_path.is_file():
        return ProblemFile.read(as_path)
    if as_path.suffix == ".py" or as_path.parent != Path():
        raise ProblemError(f"{problem}: there is no such problem file")
    folder = directory or bundled("reference_models")
    paths = _problem_paths(folder)
    named = [p for p in paths if p.stem == problem]
    if len(named) > 1:
        places = ", ".join(map(str, named))
        raise ProblemError(f"several problems are called {problem!r}: {places}; give the path")
    if named:
        return ProblemFile.read(named[0])
    names = ", ".join(sorted({p.stem for p in paths})) or "none"
    raise ProblemError(f"there is no problem called {problem!r} in {folder}; there are: {names}")


def listing(directory: Path | None = None) -> list[ProblemFile | ProblemError]:
    """Every problem file below ``directory`` (the shipped ones by default), broken ones as errors.

    Raises:
        ProblemError: ``directory`` is not a directory.
    """
    folder = directory or bundled("reference_models")
    if not folder.is_dir():
        raise ProblemError(f"{folder}: there is no such directory of problems")
    found: list[ProblemFile | ProblemError] = []
    for path in _problem_paths(folder):
        try:
            found.append(ProblemFile.read(path))
        except ProblemError as error:
            found.append(error)
    return found


def _problem_paths(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py") if not p.name.startswith("_"))
