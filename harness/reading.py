"""The stages that need a generation's text only: extract and screen.

Does not: run anything, or need a device.
"""

from __future__ import annotations

from harness.extract import extract
from harness.generation import Prepared
from harness.records import Finding, Severity, Stage, Verdict
from harness.screening import screen, signature_of


def take_candidate(prepared: Prepared) -> Verdict | None:
    """Find the candidate in the raw text; the verdict where there is none."""
    extraction = extract(prepared.generation.text)
    prepared.findings += extraction.findings
    prepared.candidate = extraction.candidate
    return Verdict.NO_CODE if extraction.candidate is None else None


def look_over(prepared: Prepared, *, on_cpu: bool, waived: bool) -> Verdict | None:
    """Screen the candidate; the verdict where that ends it.

    Args:
        prepared: Holds the candidate, and gets the findings.
        on_cpu: Whether it is to run on the CPU, where C++ may stand in for kernels.
        waived: Whether gradients are not judged.
    """
    text = prepared.candidate or ""
    native = on_cpu and "__global__" not in text
    screening = screen(text, signature_of(prepared.problem.source), native=native)
    prepared.findings += [
        f
        for f in screening.findings
        if not (waived and f.rule == "R06" and f.severity is Severity.WARNING)
    ]
    if not screening.syntax_ok:
        return Verdict.SYNTAX_ERROR
    # What a compiler is going to say is left for the compiler to say.
    rules = [f for f in screening.errors if not f.rule.startswith("build.")]
    return Verdict.REJECTED if rules else None


def settled(verdict: Verdict, findings: list[Finding]) -> list[Finding]:
    """A candidate that passed has disproved what screening expected of a compiler."""
    if verdict is not Verdict.PASSED:
        return findings
    return [
        f.model_copy(update={"severity": Severity.WARNING})
        if f.severity is Severity.ERROR and f.stage is Stage.SCREEN
        else f
        for f in findings
    ]
