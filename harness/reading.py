"""The stages that need a generation's text only: extract and screen.

The text is hostile, so both run in a process of their own, within limits (``readers``).

Does not: run anything of the candidate's, or need a device.
"""

from __future__ import annotations

from harness.extract import Extraction
from harness.generation import Prepared
from harness.readers import Exceeded, Readers
from harness.records import Finding, Severity, Stage, Verdict
from harness.screening import Screening
from harness.settings import Settings
from harness.wire import Message


class Reading:
    """Reads texts, from several threads at a time where they ask at a time."""

    def __init__(self, settings: Settings, readers: Readers) -> None:
        self._settings = settings
        self._readers = readers

    def take_candidate(self, prepared: Prepared) -> Verdict | None:
        """Find the candidate in the raw text; the verdict where there is none.

        Raises:
            ReaderFault: something of ours failed.
        """
        raw = prepared.generation.text.encode("utf-8", "replace")
        if len(raw) > self._settings.text_bytes:
            said = f"The text has {len(raw)} bytes; {self._settings.text_bytes} are read at most."
            prepared.findings.append(_refusal(Stage.EXTRACT, "too_long", said))
            return Verdict.NO_CODE
        try:
            found = self._ask({"op": "extract", "text": raw.decode()})
        except Exceeded as error:
            said = f"Looking for code in the text {error}."
            prepared.findings.append(_refusal(Stage.EXTRACT, "too_costly", said))
            return Verdict.NO_CODE
        extraction = Extraction.model_validate(found)
        prepared.findings += extraction.findings
        prepared.candidate = extraction.candidate
        return Verdict.NO_CODE if extraction.candidate is None else None

    def look_over(self, prepared: Prepared, *, on_cpu: bool, waived: bool) -> Verdict | None:
        """Screen the candidate; the verdict where that ends it.

        Args:
            prepared: Holds the candidate, and gets the findings.
            on_cpu: Whether it is to run on the CPU, where C++ may stand in for kernels.
            waived: Whether gradients are not judged.

        Raises:
            ReaderFault: something of ours failed.
        """
        text = prepared.candidate or ""
        native = on_cpu and "__global__" not in text
        reference = prepared.problem.source
        message = {"op": "screen", "text": text, "reference": reference, "native": native}
        try:
            screening = Screening.model_validate(self._ask(message))
        except Exceeded as error:
            said = f"Screening the code {error}."
            prepared.findings.append(_refusal(Stage.SCREEN, "too_costly", said))
            return Verdict.REJECTED
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

    def _ask(self, message: Message) -> Message:
        limits = self._settings
        return self._readers.ask(message, limits.text_seconds, limits.text_memory_bytes)


def _refusal(stage: Stage, name: str, message: str) -> Finding:
    return Finding(
        rule=f"{stage}.{name}",
        severity=Severity.ERROR,
        stage=stage,
        message=message,
        advice="Write less, and no chains of thousands of classes, kernels or attributes.",
    )


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
