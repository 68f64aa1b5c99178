"""What the emulated device reports, as findings and verdicts; and the orders that a trial runs in.

The reports come from the candidate's own process: they explain, and they can condemn, but
nothing passes because of them (an emulated evaluation has no score to win).

Does not: talk to a worker.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harness.build import ExtensionSpec, diagnostics
from harness.emulation.device import Order
from harness.oracle.stop import Stop
from harness.records import Finding, Place, Severity, Stage, Verdict
from harness.supervisor import Extension
from harness.wire import Message

SCHEDULES: tuple[tuple[Order, Order], ...] = (
    (Order.FORWARD, Order.FORWARD),
    (Order.REVERSE, Order.REVERSE),
    (Order.SHUFFLED, Order.FORWARD),
    (Order.SHUFFLED, Order.REVERSE),
)
"""Orders of threads and of blocks: what is right in some of them only is a race."""

KERNEL_SHARE = 0.6
"""The part of a call's time limit that its kernels may take before they count as too slow."""


HOST_PATIENCE = 4
"""How many times a call's limit the host may take: the limit counts the time of a processor that
kernels use, which on a busy machine is a part of the time that passes."""


@dataclass(frozen=True)
class _Meaning:
    """What a kind of report means for the candidate."""

    words: str
    advice: str
    verdict: Verdict | None = Verdict.RUNTIME_ERROR
    """``None`` where the report is a warning."""


_BOUNDS = "Check the index against the sizes; the grid is often larger than the data."
_MEANINGS = {
    "out_of_bounds": _Meaning("Access out of bounds", _BOUNDS),
    "array_bounds": _Meaning("Array index out of bounds", _BOUNDS),
    "row_bounds": _Meaning(
        "Index beyond the row of an array",
        "It stays within the array only if the next row is meant.",
        None,
    ),
    "misaligned": _Meaning(
        "Misaligned access",
        "A vector type needs an address that is a multiple of its size: check data_ptr() and the "
        "offset, and fall back to scalar accesses.",
    ),
    "host_pointer": _Meaning(
        "Host pointer", "Move the tensor to the device before its data_ptr() goes to a kernel."
    ),
    "launch_refused": _Meaning(
        "Launch refused", "Choose a grid and a block within the device's limits."
    ),
    "static_shared": _Meaning(
        "Too much shared memory",
        "Static shared memory ends at 48 KB (ptxas refuses more); use dynamic shared memory with "
        "cudaFuncSetAttribute.",
    ),
    "stack_overflow": _Meaning(
        "Stack overflow", "Keep large arrays in shared or global memory; do not recurse."
    ),
    "division_by_zero": _Meaning(
        "Division by zero", "Check the divisor; a GPU goes on with an arbitrary quotient."
    ),
    "assertion": _Meaning("Device-side assertion failed", "Correct what the assertion checks."),
    "trap": _Meaning("Trap", "The kernel ended itself."),
    "deadlock": _Meaning(
        "Deadlock",
        "Every thread of a block must reach the same __syncthreads(), and every lane of a mask "
        "the same warp operation: move them out of divergent code.",
        Verdict.TIMED_OUT,
    ),
    "endless": _Meaning("Endless loop", "Check the loop's condition and step.", Verdict.TIMED_OUT),
    "too_slow": _Meaning(
        "Too slow for the emulated device",
        "Give the problem small CASES, or judge it on a GPU.",
        Verdict.UNSUPPORTED,
    ),
    "unsupported": _Meaning(
        "Not emulated", "Judge this candidate on an NVIDIA GPU.", Verdict.UNSUPPORTED
    ),
    "divergent_barrier": _Meaning(
        "Divergent barrier",
        "All threads of a block must wait at the same __syncthreads(): this works by chance.",
        None,
    ),
    "lane_not_in_mask": _Meaning(
        "Wrong warp mask", "The mask must name every lane that takes part.", None
    ),
}
_WAITS_FOR_OTHERS = re.compile(r"\b(?:volatile|atomic\w*|__threadfence|__ld(?:cv|cg|acquire)\w*)\b")


class Reports:
    """What the device reported while one candidate was judged."""

    def __init__(self, candidate: str) -> None:
        self._candidate = candidate
        self._specs: list[ExtensionSpec] = []
        self._noticed: dict[str, Finding] = {}

    def listening(self, extension: Extension) -> Extension:
        """The same service, overheard: what is built tells the candidate's lines."""

        def overheard(wire: Message) -> tuple[Message, Sequence[int]]:
            with contextlib.suppress(ValidationError):
                self._specs.append(ExtensionSpec.model_validate(wire))
            return extension(wire)

        return overheard

    @property
    def warnings(self) -> list[Finding]:
        """What was seen and is no error."""
        return list(self._noticed.values())

    def read(self, raw: object, stage: Stage, doing: str, *, failed: bool) -> Stop | None:
        """The end that reports mean; those that mean none are kept as warnings.

        ``failed`` says that the call raised: a refused launch is why, then.
        """
        reports = [r for r in raw if isinstance(r, dict)] if isinstance(raw, list) else []
        fatal: list[tuple[Verdict, Finding]] = []
        for report in reports:
            kind = self._kind(report)
            meaning = _MEANINGS.get(kind)
            if meaning is None or (kind == "launch_refused" and not failed):
                continue
            verdict = self._verdict(kind, meaning)
            finding = self._finding(kind, meaning, verdict, report, stage, doing)
            if verdict is None:
                self._noticed.setdefault(f"{kind}:{finding.place}", finding)
            else:
                fatal.append((verdict, finding))
        if not fatal:
            return None
        return Stop(fatal[0][0], stage, *(finding for _, finding in fatal[:4]))

    def _kind(self, report: Message) -> str:
        """An index beyond a row is no error where the array has several (see sanitizer.cpp)."""
        kind = str(report.get("kind"))
        if kind != "array_bounds":
            return kind
        unit = self._unit(str(report.get("file")))
        line, column = number(report.get("line")), number(report.get("column"))
        text = unit[line - 1] if 0 < line <= len(unit) else ""
        return "row_bounds" if _is_inner_subscript(text, column) else kind

    def _verdict(self, kind: str, meaning: _Meaning) -> Verdict | None:
        """A thread that waits for another block looks as if it ran for ever."""
        text = "\n".join(t for spec in self._specs for t in spec.texts)
        if kind == "endless" and _WAITS_FOR_OTHERS.search(text):
            return Verdict.UNSUPPORTED
        return meaning.verdict

    def _finding(
        self,
        kind: str,
        meaning: _Meaning,
        verdict: Verdict | None,
        report: Message,
        stage: Stage,
        doing: str,
    ) -> Finding:
        line = self._line(str(report.get("file")), number(report.get("line")))
        other = self._line(str(report.get("file")), number(report.get("other_line")))
        where = _where(report)
        second = f" (the other at line {other})" if other else ""
        message = f"{meaning.words}, while {doing}: {where}{report.get('text')}{second}."
        if kind == "endless" and verdict is Verdict.UNSUPPORTED:
            message += " It may wait for another block, and blocks run one after the other here."
        return Finding(
            rule=f"emulated.{kind}",
            severity=Severity.WARNING if verdict is None else Severity.ERROR,
            stage=stage,
            message=message,
            advice=meaning.advice,
            place=Place(line=line) if line else None,
        )

    def _unit(self, file: str) -> list[str]:
        for spec in self._specs:
            lines = diagnostics.unit_lines(spec, file)
            if lines != [""]:
                return lines
        return []

    def _line(self, file: str, line: int) -> int | None:
        """The candidate's own line of a line in a translation unit."""
        error = diagnostics.CompilerError(file, line, "")
        for spec in self._specs:
            found = diagnostics.candidate_line(spec, error, self._candidate)
            if found is not None:
                return found
        return None


def racy(stage: Stage, right: Sequence[str], wrong: Sequence[str], detail: Finding) -> Stop:
    """The end of a candidate that is right in some orders and wrong in others."""
    finding = Finding(
        rule="emulated.racy",
        severity=Severity.ERROR,
        stage=stage,
        message="The result depends on the order in which threads or blocks run: right with "
        f"{'; '.join(right)}, wrong with {'; '.join(wrong)}.",
        advice="Something is read before another thread has written it, or written by several: "
        "look for a missing __syncthreads(), __syncwarp() or atomic operation.",
    )
    return Stop(Verdict.RACY, stage, finding, detail)


def describe(schedule: tuple[Order, Order]) -> str:
    """``threads in reverse, blocks forward``."""
    words = {Order.FORWARD: "forward", Order.REVERSE: "in reverse", Order.SHUFFLED: "shuffled"}
    return f"threads {words[schedule[0]]}, blocks {words[schedule[1]]}"


def leak(counts: Sequence[int], case: str) -> Finding | None:
    """A warning where equal calls leave more and more memory behind."""
    steps = [b - a for a, b in itertools.pairwise(counts)]
    if len(steps) < 2 or min(steps) <= 0:
        return None
    return Finding(
        rule="emulated.leak",
        severity=Severity.WARNING,
        stage=Stage.VALUES,
        message=f"Every call on case {case!r} leaves {min(steps)} more allocation(s) of cudaMalloc "
        "behind: a memory leak per call.",
        advice="Free what a call allocates, or allocate it with torch::empty.",
    )


def launches(value: object) -> dict[str, int]:
    """Launches per kernel, as a worker claims them."""
    if not isinstance(value, dict):
        return {}
    pairs: Iterable[tuple[Any, Any]] = list(value.items())[:200]
    return {str(k)[:128]: number(v) for k, v in pairs if number(v) > 0}


def _where(report: Message) -> str:
    kernel = str(report.get("kernel", ""))[:128]
    block, thread = report.get("block"), report.get("thread")
    if not kernel:
        return ""
    if not block or not thread:
        return f"{kernel}: "
    return f"{kernel}, block {_triple(block)}, thread {_triple(thread)}: "


def _triple(value: object) -> str:
    parts = value if isinstance(value, list | tuple) else []
    return f"({', '.join(str(number(p)) for p in parts[:3])})"


def names(value: object) -> set[str]:
    """Names that a worker claims."""
    return {str(name)[:100] for name in value[:1000]} if isinstance(value, list) else set()


def number(value: object) -> int:
    """A whole number that a worker claims; 0 where it is none."""
    return value if isinstance(value, int) else 0


def _is_inner_subscript(text: str, column: int) -> bool:
    """Whether the subscript whose bracket closes at a column follows another: ``tile[0][i]``.

    Where that cannot be told it is taken for one, which accuses nobody.
    """
    if text[column - 1 : column] != "]":
        return True
    depth = 0
    for i in range(column - 1, -1, -1):
        depth += {"]": 1, "[": -1}.get(text[i], 0)
        if depth == 0:
            return text[:i].rstrip().endswith("]")
    return True
