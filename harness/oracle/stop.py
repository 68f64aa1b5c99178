"""The end of a judgement before its last stage, as an exception that the judge catches.

Does not: cross a process; the oracle's program puts it into an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.records import Finding, Place, Severity, Stage, Verdict
from harness.supervisor import Cause, ChildEnded
from harness.wire import Message


class Stop(Exception):
    """A verdict was reached; the findings say why."""

    def __init__(self, verdict: Verdict, stage: Stage, *findings: Finding) -> None:
        super().__init__(f"{verdict} at {stage}")
        self.verdict = verdict
        self.stage = stage
        self.findings = findings


_ENDS = {
    Cause.EXITED: Verdict.RUNTIME_ERROR,
    Cause.SIGNALLED: Verdict.RUNTIME_ERROR,
    Cause.TIMED_OUT: Verdict.TIMED_OUT,
    Cause.OUT_OF_MEMORY: Verdict.OUT_OF_MEMORY,
    Cause.TOO_MANY_PROCESSES: Verdict.RUNTIME_ERROR,
    Cause.VIOLATION: Verdict.TAMPERED,
}
_ADVICE = {
    Cause.EXITED: "A module returns its output; it never ends the process.",
    Cause.SIGNALLED: "Look for an access out of bounds in the C++ or CUDA code, or for endless "
    "native recursion.",
    Cause.TIMED_OUT: "Look for a loop that does not end, a deadlock, or a kernel that is far too "
    "slow for these sizes.",
    Cause.OUT_OF_MEMORY: "Allocate only what the outputs need, and free what a call allocates.",
    Cause.TOO_MANY_PROCESSES: "A module starts no processes.",
    Cause.VIOLATION: "The candidate wrote to descriptors that are not its own.",
}


def ended(error: ChildEnded, stage: Stage, doing: str) -> Stop:
    """The worker died, hung or broke the protocol while ``doing`` something."""
    finding = Finding(
        rule=f"worker.{error.cause}",
        severity=Severity.ERROR,
        stage=stage,
        message=f"While {doing}, the candidate's process ended: {error}.",
        advice=_ADVICE[error.cause],
        detail=error.output[-4000:],
    )
    return Stop(_ENDS[error.cause], stage, finding)


def out_of_time(stage: Stage, seconds: float) -> Stop:
    """Each call was in time, and all of them together were not."""
    finding = Finding(
        rule=f"{stage}.{Cause.TIMED_OUT}",
        severity=Severity.ERROR,
        stage=stage,
        message=f"The candidate is so slow that its {stage} stage took more than {seconds:.0f} s.",
        advice=_ADVICE[Cause.TIMED_OUT],
    )
    return Stop(Verdict.TIMED_OUT, stage, finding)


def malformed(stage: Stage) -> Stop:
    """The worker's answer does not have the form that the harness's own program gives it."""
    finding = Finding(
        rule="worker.violation",
        severity=Severity.ERROR,
        stage=stage,
        message="The candidate's process answered in a form that the harness never uses.",
        advice=_ADVICE[Cause.VIOLATION],
    )
    return Stop(Verdict.TAMPERED, stage, finding)


def failed(
    failure: Message, stage: Stage, doing: str, otherwise: Verdict, *, emulation: bool
) -> Stop:
    """The candidate raised while ``doing`` something; ``otherwise`` names a plain exception.

    Only with ``emulation`` can a device lack what a candidate uses: elsewhere such words are
    its own, and would be a failure that nobody counts.
    """
    kind, text = failure.get("kind"), str(failure.get("message", ""))[:1500]
    if kind == "unsupported" and not emulation:
        kind = "exception"
    line = failure.get("line")
    verdict = {
        "out_of_memory": Verdict.OUT_OF_MEMORY,
        "device": Verdict.RUNTIME_ERROR,
        "unsupported": Verdict.UNSUPPORTED,
    }.get(str(kind), otherwise)
    finding = Finding(
        rule=f"{stage}.exception",
        severity=Severity.ERROR,
        stage=stage,
        message=f"While {doing}, the candidate raised {failure.get('type')}: {text}",
        advice=_exception_advice(str(kind), str(failure.get("type")), text),
        place=Place(line=line) if isinstance(line, int) and line > 0 else None,
        detail=str(failure.get("traceback", ""))[-4000:],
    )
    return Stop(verdict, stage, finding)


def _exception_advice(kind: str, name: str, text: str) -> str:
    if kind == "out_of_memory":
        return "Allocate only what the outputs need, and free what a call allocates."
    if kind == "device":
        return (
            "A kernel faulted: check every index against the sizes, and put "
            "C10_CUDA_KERNEL_LAUNCH_CHECK() after each launch to see which one."
        )
    if kind == "unsupported":
        return "Judge this candidate on an NVIDIA GPU."
    if name == "NameError":
        return "Define or import the name."
    if name == "RecursionError":
        return "A backward must not call the function that it differentiates."
    if "incompatible function arguments" in text:
        return "Make the call's arguments match the C++ signature (torch::Tensor is never None)."
    return "Repeat it with this case's constructor arguments and shapes; the detail says where."


def distinct(findings: Iterable[Finding]) -> list[Finding]:
    """Each message once, in the order in which they came."""
    seen: dict[str, Finding] = {}
    for finding in findings:
        seen.setdefault(finding.message, finding)
    return list(seen.values())


def crowded_out(stage: Stage) -> Finding:
    """The candidate's tensors leave no room for the oracle's."""
    return Finding(
        rule="values.device_memory",
        severity=Severity.ERROR,
        stage=stage,
        message="The reference fitted on the device before the candidate was there, and no longer "
        "does: the candidate keeps device memory between calls.",
        advice="Free what a call allocates, and keep no workspace that grows.",
    )
