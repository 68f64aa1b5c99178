"""What keeps a candidate from the emulated device, as findings at the candidate's own lines.

Does not: build, or run anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.build import units
from harness.build.diagnostics import CompilerError, candidate_line
from harness.build.spec import ExtensionSpec
from harness.emulation import constructs, refusals
from harness.records import Finding, Place, Severity, Stage


def unsupported(spec: ExtensionSpec, candidate: str) -> list[Finding]:
    """What the sources use that is not emulated."""
    found = [
        (name, line, construct)
        for name, first, text in _texts(spec)
        for construct in constructs.unsupported(text)
        for line in [first + construct.line - 1]
    ]
    return [_finding(spec, file, line, c.name, candidate) for file, line, c in found]


def missing(spec: ExtensionSpec, log: str, candidate: str) -> list[Finding]:
    """Names that a failed build missed, and that are CUDA's rather than the candidate's."""
    text = "\n".join(spec.texts)
    return [
        _finding(spec, "cuda.cu", construct.line, construct.name, candidate)
        for construct in constructs.missing(log, text)
    ]


def refused(spec: ExtensionSpec, candidate: str) -> list[Finding]:
    """What nvcc refuses and GCC would take."""
    made = []
    for file, first, text in _texts(spec):
        for refusal in refusals.refusals(text):
            line = candidate_line(
                spec, CompilerError(file, first + refusal.line - 1, ""), candidate
            )
            made.append(
                Finding(
                    rule="build.compiler",
                    severity=Severity.ERROR,
                    stage=Stage.BUILD,
                    message=refusal.message,
                    advice="nvcc refuses this, whatever another compiler says.",
                    place=Place(line=line) if line else None,
                )
            )
    return made


def _texts(spec: ExtensionSpec) -> Iterable[tuple[str, int, str]]:
    """Name, number of the first line, and text of everything that nvcc would compile."""
    for unit in units.of(spec):
        if unit.name.endswith(".cu"):
            yield unit.name, 1 + len(unit.implicit), unit.text
    for name, text in units.headers(spec):
        yield name, 1, text


def _finding(spec: ExtensionSpec, file: str, line: int, name: str, candidate: str) -> Finding:
    own = candidate_line(spec, CompilerError(file, line, ""), candidate)
    return Finding(
        rule="emulated.unsupported",
        severity=Severity.ERROR,
        stage=Stage.BUILD,
        message=f"The emulated device has no {name}.",
        advice="Judge this candidate on an NVIDIA GPU; it may well be right.",
        place=Place(line=own) if own else None,
    )
