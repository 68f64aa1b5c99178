"""A generation on its way to a verdict: the raw text, and what is known before a device is needed.

Does not: judge.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from harness.errors import GenerationError
from harness.problems import ProblemFile
from harness.records import Build, Evaluation, Finding, Stage, Verdict


@dataclass(frozen=True)
class Generation:
    """A raw answer, with the name it goes by."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the raw text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> Self:
        """Read a file.

        Raises:
            GenerationError: it cannot be read as text.
        """
        try:
            return cls(name or str(path), path.read_text(encoding="utf-8", errors="strict"))
        except UnicodeDecodeError as error:
            raise GenerationError(f"{path}: the generation is not UTF-8 text: {error}") from error
        except OSError as error:
            raise GenerationError(f"{path}: the generation cannot be read: {error}") from error


@dataclass
class Prepared:
    """A generation on its way: what is known before a device is needed."""

    generation: Generation
    problem: ProblemFile
    started_at: str
    candidate: str | None = None
    findings: list[Finding] = field(default_factory=list)
    builds: dict[str, Build] = field(default_factory=dict)
    """What was built for it, by the artifact's key."""
    seconds: dict[Stage, float] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    """Set as soon as a verdict is reached without a device."""
    refused: dict[str, tuple[Verdict, list[Finding]]] = field(default_factory=dict)
    """What was asked for only on a device, and cannot be built; by spec."""
    begun: float = field(default_factory=time.perf_counter)
    """When its text was first looked at."""
    builder_wait: float = 0.0
    """Seconds spent waiting for a builder."""
    device_wait: float = 0.0
    """Seconds spent ready and waiting for a device."""

    @property
    def candidate_sha256(self) -> str | None:
        """Hash of the candidate, if one was found."""
        text = self.candidate
        return None if text is None else hashlib.sha256(text.encode()).hexdigest()

    @property
    def elapsed(self) -> float:
        """Seconds since its text was first looked at."""
        return time.perf_counter() - self.begun
