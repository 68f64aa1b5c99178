"""Reads compilers' messages and finds the candidate's own lines that they speak of.

Does not: run a compiler, or guess: a line that cannot be found gets no place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.build.spec import ExtensionSpec
from harness.records import Finding, Place, Severity, Stage

_FILE = r"^(?P<file>[^\s:(][^:(]*)"
_LINE = r"(?P<line>[0-9]{1,9})"
_GCC = re.compile(_FILE + ":" + _LINE + r":(?:\d+:)? (?:fatal )?error: (?P<text>.*)$")
_NVCC = re.compile(_FILE + r"\(" + _LINE + r"\): (?:catastrophic )?error[^:]*: (?P<text>.*)$")
_LINKER = re.compile(
    r"^(?:\S*\b(?:ld|ld\.\w+|collect2): (?:error: )?|[^\s(]+:\([^\s)]+\): )"
    r"(?P<text>.*(?:undefined|cannot find|multiple definition).*)$"
)
_PTXAS = re.compile(r"^ptxas .*?(?:fatal|error)\s*:\s*(?P<text>.*)$")
_NOT_THEIRS = "\0"
"""Stands for a line that the harness put into a unit: no line of a candidate equals it."""
_MOST = 8
_LONGEST_ROW = 4000
_FARTHEST, _MOST_PLACES = 100, 1000
"""How far neighbours are compared, and of how many equal lines: candidates can be all braces."""


@dataclass(frozen=True)
class CompilerError:
    """One error, as the compiler placed it."""

    file: str
    line: int
    text: str


def errors(log: str) -> list[CompilerError]:
    """The errors of a build log, in order, without repetitions."""
    found: dict[tuple[str, int, str], CompilerError] = {}
    for row in log.splitlines():
        for pattern in (_GCC, _NVCC, _PTXAS, _LINKER):
            if (match := pattern.match(row[:_LONGEST_ROW])) is None:
                continue
            groups = match.groupdict()
            file = (groups.get("file") or "").rsplit("/", 1)[-1]
            error = CompilerError(
                file, int(groups.get("line") or 0), groups["text"].strip() or "error"
            )
            found.setdefault((error.file, error.line, error.text), error)
            break
    return list(found.values())


def findings(spec: ExtensionSpec, log: str, candidate: str) -> list[Finding]:
    """A finding for each compiler error, at the candidate's own line where it can be said."""
    read = errors(log)
    made = [_finding(spec, error, candidate) for error in read[:_MOST]]
    if not made:
        made = [
            Finding(
                rule="build.failed",
                severity=Severity.ERROR,
                stage=Stage.BUILD,
                message=f"Extension {spec.name!r} could not be built.",
                advice="Read the compiler's output below.",
                detail=log[-6000:],
            )
        ]
    if len(read) > _MOST:
        note = f"{len(read) - _MOST} more errors of the compiler are not listed."
        made.append(
            Finding(rule="build.more", severity=Severity.NOTE, stage=Stage.BUILD, message=note)
        )
    return made


def candidate_line(spec: ExtensionSpec, error: CompilerError, candidate: str) -> int | None:
    """The candidate's line that an error speaks of."""
    unit = unit_lines(spec, error.file)
    if not 1 <= error.line <= len(unit):
        return None
    return locate(unit, error.line - 1, candidate.split("\n"))


def unit_lines(spec: ExtensionSpec, file: str) -> list[str]:
    """The lines of a translation unit, as it is written for the build and a compiler counts."""
    if spec.kind == "files":
        return next((text for name, text in spec.files if name == file), "").split("\n")
    prefix = 0 if spec.no_implicit_headers else {"main.cpp": 1, "cuda.cu": 3}.get(file, 0)
    texts = {"main.cpp": spec.cpp_sources, "cuda.cu": spec.cuda_sources}.get(file, ())
    return [_NOT_THEIRS] * prefix + "\n".join(texts).split("\n")


def locate(unit: Sequence[str], index: int, candidate: Sequence[str]) -> int | None:
    """The line of ``candidate`` (from 1) that became line ``index`` (from 0) of ``unit``.

    The first or last line of a string shares its line with the quotes. Of several
    lines the one wins whose neighbours agree for longest; where two agree alike,
    nobody can tell.
    """
    wanted = unit[index].strip()
    places = [i for i, text in enumerate(candidate) if wanted in text] if wanted else []
    if not 0 < len(places) <= _MOST_PLACES:
        return None

    def likeness(place: int) -> tuple[int, bool]:
        return _agreement(unit, index, candidate, place), candidate[place].strip() == wanted

    best, *others = sorted(places, key=likeness, reverse=True)
    if others and likeness(others[0]) == likeness(best):
        return None
    return best + 1


def _agreement(unit: Sequence[str], at: int, candidate: Sequence[str], place: int) -> int:
    score = 0
    for step in (-1, 1):
        distance = step
        while 0 <= at + distance < len(unit) and 0 <= place + distance < len(candidate):
            if abs(distance) > _FARTHEST:
                break
            ours, theirs = unit[at + distance].strip(), candidate[place + distance].strip()
            if ours != theirs:
                score += bool(ours) and ours in theirs  # the row with the quotes
                break
            score += 1
            distance += step
    return score


def _finding(spec: ExtensionSpec, error: CompilerError, candidate: str) -> Finding:
    line = candidate_line(spec, error, candidate)
    where = f"{error.file}:{error.line}: " if error.file and line is None else ""
    return Finding(
        rule="build.compiler" if error.file else "build.linker",
        severity=Severity.ERROR,
        stage=Stage.BUILD,
        message=f"{where}{error.text}"[:4000],
        advice=_advice(error.text),
        place=Place(line=line) if line else None,
    )


def _advice(text: str) -> str:
    name = re.search(r"[‘'\"]([A-Za-z_]\w*)[’'\"]", text)
    if "was not declared" in text and name:
        return f"Declare {name.group(1)} in cpp_sources, with the signature of its definition."
    if "is undefined" in text and name:
        return f"Define {name.group(1)}, or include the header that does."
    if "undefined reference" in text or "undefined symbol" in text:
        return "Define the function, with the very signature that was declared."
    if "multiple definition" in text:
        return "Define it in one of the sources, and declare it in the other."
    return "Correct it; the message is the compiler's own."
