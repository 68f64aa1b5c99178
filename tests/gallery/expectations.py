"""The gallery: candidates that a grader must get right, each with the verdict that it must get.

``honest/`` holds right candidates written in unusual ways, ``flawed/`` honest mistakes that look
like success, ``cheats/`` attacks on the checker, the clock, the rules and the process. All answer
shipped problems and are named ``<problem>__<what it does>.py``. A candidate's module docstring
says what it does and ends in these lines:

    gallery: ptr_memo               what it is known by; variants share it
    emulated: wrong_values          verdicts of which one is expected on the emulated device
    h100: wrong_values|tampered     the same for a GPU

Does not: judge anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.records import Verdict
from tests.headers import description, header, verdicts

FOLDER = Path(__file__).resolve().parent
HONEST = sorted((FOLDER / "honest").glob("*.py"))
FLAWED = sorted((FOLDER / "flawed").glob("*.py"))
CHEATS = sorted((FOLDER / "cheats").glob("*.py"))


@dataclass(frozen=True)
class Entry:
    """What the docstring of one candidate says."""

    path: Path
    known_as: str
    """What it is, by a short name; variants share it."""
    does: str
    """What it does, in a few sentences."""
    emulated: frozenset[Verdict]
    """The verdicts of which one is expected on the emulated device."""
    h100: frozenset[Verdict]
    """The verdicts of which one is expected on a GPU."""

    @property
    def problem(self) -> str:
        """The shipped problem that it answers."""
        return self.path.stem.partition("__")[0]

    @property
    def kind(self) -> str:
        """``honest``, ``flawed`` or ``cheats``."""
        return self.path.parent.name

    def expected(self, device: str) -> frozenset[Verdict]:
        """The verdicts that are expected on ``emulated`` or ``cuda``."""
        return self.emulated if device == "emulated" else self.h100


def entry(path: Path) -> Entry:
    """What a candidate's docstring says.

    Raises:
        ValueError: the header is not complete, or says what has no meaning.
    """
    lines = header(path)
    if set(lines) != {"gallery", "emulated", "h100"}:
        raise ValueError(f"{path}: the header has {sorted(lines)}, not gallery, emulated and h100")
    return Entry(
        path=path,
        known_as=lines["gallery"],
        does=description(path),
        emulated=verdicts(path, lines["emulated"]),
        h100=verdicts(path, lines["h100"]),
    )
