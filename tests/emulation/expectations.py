"""What the headers of the two sets of candidates say: problem, verdicts, words of the finding.

``right/`` holds candidates without a bug, ``bugs/`` candidates with one each, ``blind/`` those
whose bug the emulated device cannot see; all are named ``<problem>__<feature or bug>.py`` after
a file in ``problems/``. A candidate's module docstring says what it does and ends in these lines:

    problem: row_sum
    emulated: racy|wrong_values     verdicts of which one is expected on the emulated device
    h100: any                       the same for a GPU; ``any`` where chance decides
    finding: depends on the order   words of which one is in the decisive finding of the emulated
                                    device (a warning where it is ``passed``); only in ``bugs/``

Does not: judge anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.records import Evaluation, Verdict
from tests.headers import header, verdicts

FOLDER = Path(__file__).resolve().parent
PROBLEMS = FOLDER / "problems"
RIGHT = sorted((FOLDER / "right").glob("*.py"))
BUGS = sorted((FOLDER / "bugs").glob("*.py"))
BLIND = sorted((FOLDER / "blind").glob("*.py"))


@dataclass(frozen=True)
class Expectation:
    """What the header of one candidate says."""

    name: str
    """The file's stem."""
    problem: Path
    """The problem's file."""
    emulated: frozenset[Verdict]
    """The verdicts of which one is expected on the emulated device."""
    h100: frozenset[Verdict]
    """The verdicts of which one is expected on a GPU."""
    words: tuple[str, ...]
    """Words of which one must be in the decisive finding of the emulated device; may be empty."""

    def explained(self, evaluation: Evaluation) -> bool:
        """Whether a finding of an emulated evaluation says what is wrong with this candidate.

        Nothing need be said where it may pass or not: that race is one that only a GPU shows.
        """
        if not self.words or (evaluation.passed and len(self.emulated) > 1):
            return True
        said = [f"{f.message} {f.advice} {f.detail}".lower() for f in evaluation.findings]
        return any(word.lower() in text for word in self.words for text in said)


def expected(path: Path) -> Expectation:
    """The expectation in a candidate's docstring.

    Raises:
        ValueError: the header is not complete, or says what has no meaning.
    """
    lines = header(path)
    wanted = {"problem", "emulated", "h100"}
    if path.parent.name == "bugs":
        wanted.add("finding")
    if set(lines) != wanted:
        raise ValueError(f"{path}: the header has {sorted(lines)}, not {sorted(wanted)}")
    return Expectation(
        name=path.stem,
        problem=PROBLEMS / f"{lines['problem']}.py",
        emulated=verdicts(path, lines["emulated"]),
        h100=verdicts(path, lines["h100"]),
        words=tuple(filter(None, lines.get("finding", "").split("|"))),
    )
