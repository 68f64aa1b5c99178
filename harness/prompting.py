"""Texts for a model: the task of a problem, and the turn that answers an evaluation.

The wording is in ``prompts/``; here is what goes into it, and what must not: of a
failed comparison only what the candidate could have seen itself (never a seed or an
expected value), and of a tampered run no detail of how it was noticed. Whatever text
is quoted stands in a fence longer than any fence inside it.

Does not: talk to a model, judge, or import torch.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.metrics import score_mode
from harness.records import (
    Comparison,
    Device,
    DeviceKind,
    Evaluation,
    Finding,
    Mode,
    Norms,
    Record,
    Speedup,
    Trial,
    Verdict,
)
from harness.resources import bundled
from harness.syntax import parse_module

MOST_FINDINGS = 20
"""More findings than this are counted, not shown."""
MOST_COMPARISONS = 8
"""More failed comparisons than this are counted, not shown."""
MOST_DETAIL = 4000
"""Characters of a finding's detail that are shown; the middle is left out."""


class RuleText(Protocol):
    """A rule as a prompt needs it."""

    @property
    def id(self) -> str:
        """``R01`` … ``R12``."""

    @property
    def text(self) -> str:
        """The full sentence."""


# ---- the hardware -----------------------------------------------------------------------------


class Hardware(Record):
    """What a model may want to know about a device; what is not known is left out."""

    name: str
    """Its marketing name."""
    architecture: str = ""
    """``sm_90`` and the like."""
    memory_gb: float | None = None
    """Device memory, in GB."""
    shared_memory_per_block_kb: float | None = None
    """Most shared memory that one block can have, after opting in above 48 KB."""
    bandwidth_gb_s: float | None = None
    """Peak memory bandwidth, in GB/s."""
    fp32_tflops: float | None = None
    """Peak of float32 outside the tensor cores, in TFLOP/s."""
    tf32_tflops: float | None = None
    """Peak of TF32 on the tensor cores without sparsity, in TFLOP/s."""
    measured: frozenset[str] = frozenset()
    """Which of these figures were measured on the device itself."""


# Vendor figures, dense (the datasheets print TF32 with sparsity, which doubles it):
#   H100:     NVIDIA H100 Tensor Core GPU datasheet (SXM and PCIe columns)
#   A100:     NVIDIA A100 Tensor Core GPU datasheet (80 GB and 40 GB)
#   L40S:     NVIDIA L40S datasheet
#   RTX 4090: NVIDIA Ada GPU Architecture whitepaper, appendix A
# Shared memory per block: CUDA C++ Programming Guide, technical specifications per compute
# capability (8.0: 163 KB, 8.9: 99 KB, 9.0: 227 KB).
_DATASHEET: tuple[tuple[str, Hardware], ...] = tuple(
    (
        pattern,
        Hardware(
            name=name,
            architecture=architecture,
            memory_gb=memory,
            shared_memory_per_block_kb=shared,
            bandwidth_gb_s=bandwidth,
            fp32_tflops=fp32,
            tf32_tflops=tf32,
        ),
    )
    for pattern, name, architecture, memory, shared, bandwidth, fp32, tf32 in (
        (r"H100.*PCIe", "NVIDIA H100 PCIe", "sm_90", 80, 227, 2000, 51, 378),
        (r"H100 80GB HBM3|H100.*SXM", "NVIDIA H100 SXM", "sm_90", 80, 227, 3350, 67, 495),
        (r"A100 80GB PCIe", "NVIDIA A100 80GB PCIe", "sm_80", 80, 163, 1935, 19.5, 156),
        (r"A100.*80GB", "NVIDIA A100 80GB SXM", "sm_80", 80, 163, 2039, 19.5, 156),
        (r"A100.*40GB", "NVIDIA A100 40GB", "sm_80", 40, 163, 1555, 19.5, 156),
        (r"L40S", "NVIDIA L40S", "sm_89", 48, 99, 864, 91.6, 183),
        (r"RTX 4090(?! ?(D|Laptop))", "NVIDIA GeForce RTX 4090", "sm_89", 24, 99, 1008, 82.6, 82.6),
    )
)
"""A pattern for the name that the driver gives, and the figures; the first match counts."""


def hardware_of(device: Device, measured: Mapping[str, float] | None = None) -> Hardware | None:
    """The facts of a CUDA device: datasheet figures, over which measured ones win.

    Args:
        device: The device; one that is not ``cuda`` has no facts to give.
        measured: Figures measured on it, by field name, such as ``bandwidth_gb_s``.
    """
    if device.kind is not DeviceKind.CUDA:
        return None
    known = next((h for p, h in _DATASHEET if re.search(p, device.name, re.IGNORECASE)), None)
    facts: dict[str, Any] = known.model_dump() if known else {}
    own = dict(measured or {})
    facts |= {"name": device.name, "measured": frozenset(own)} | own
    if device.architecture:
        facts["architecture"] = device.architecture
    return Hardware(**facts)


_HARDWARE_LINES = (
    ("shared_memory_per_block_kb", "shared memory per block", "{:g} KB (48 KB without opting in)"),
    ("memory_gb", "memory", "{:g} GB"),
    ("bandwidth_gb_s", "peak memory bandwidth", "{:g} GB/s"),
    ("fp32_tflops", "peak float32", "{:g} TFLOP/s"),
    ("tf32_tflops", "peak TF32 on tensor cores, dense", "{:g} TFLOP/s"),
)


def _hardware_lines(hardware: Hardware) -> list[tuple[str, str]]:
    lines = [("GPU", hardware.name)]
    if hardware.architecture:
        lines.append(("architecture", hardware.architecture))
    for field, label, form in _HARDWARE_LINES:
        value = getattr(hardware, field)
        if value is not None:
            source = " (measured on this device)" if field in hardware.measured else ""
            lines.append((label, form.format(value) + source))
    return lines


# ---- the templates ----------------------------------------------------------------------------


def fenced(text: str, language: str = "") -> str:
    """The text as a Markdown code block, in a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def one_line(text: str) -> str:
    """The text with every run of white space as one space, so that it starts no block."""
    return " ".join(text.split())


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(bundled("prompts"), encoding="utf-8"),
        autoescape=False,  # plain text, never HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fenced": fenced, "one_line": one_line}
    return environment


def _render(template: str, **values: object) -> str:
    text = _templates().get_template(template).render(**values)
    return text.strip() + "\n"


# ---- the task ---------------------------------------------------------------------------------

_OURS = frozenset({"CASES", "CPU_HEADLINE", "TOLERANCE", "forward_flops", "forward_bytes"})
"""What a problem file declares for the judgement, beyond KernelBench's format."""


def public_part(reference_source: str) -> str:
    """The reference without what it declares for the judgement only.

    The small cases are left out, so that a candidate is written for all shapes and
    not for those; so are the formulas of its work, and private functions that only
    they use. What cannot be parsed comes back as it is.
    """
    try:
        body = parse_module(reference_source).body
    except (SyntaxError, ValueError, RecursionError):
        return reference_source
    kept = [node for node in body if not _names(node) & _OURS]
    used = {n.id for node in kept for n in ast.walk(node) if isinstance(n, ast.Name)}
    kept = [
        node
        for node in kept
        if not (isinstance(node, ast.FunctionDef) and node.name[0] == "_" and node.name not in used)
    ]
    if len(kept) == len(body):
        return reference_source
    dropped = {
        line
        for node in body
        if node not in kept
        for line in range(_first_line(node), (node.end_lineno or node.lineno) + 1)
    }
    lines = reference_source.splitlines()
    text = "\n".join(line for at, line in enumerate(lines, 1) if at not in dropped)
    return re.sub(r"\n{4,}", "\n\n\n", text).rstrip() + "\n"


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets: Sequence[ast.expr] = ()
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = (node.target,)
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _first_line(node: ast.stmt) -> int:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else ()
    return min((d.lineno for d in decorators), default=node.lineno)


def render_task(
    problem_name: str,
    reference_source: str,
    rules: Iterable[RuleText],
    example: bool = True,
    hardware: Hardware | None = None,
) -> str:
    """The task of a problem, as Markdown.

    Args:
        problem_name: The problem's name.
        reference_source: The text of the problem file; its public part is shown.
        rules: The rules of the task, in order.
        example: Whether to show the worked example.
        hardware: What to say about the device, if anything.
    """
    return _render(
        "task.md.j2",
        problem_name=one_line(problem_name),
        reference_source=public_part(reference_source),
        rules=list(rules),
        example=_example() if example else None,
        hardware=_hardware_lines(hardware) if hardware is not None else None,
    )


def _example() -> dict[str, str]:
    folder = bundled("prompts") / "example"
    return {
        part: (folder / f"{part}.py").read_text(encoding="utf-8")
        for part in ("reference", "answer")
    }


# ---- the feedback -----------------------------------------------------------------------------

_MEANING = {
    Verdict.PASSED: "The code is right in every respect that was checked.",
    Verdict.NO_CODE: "No code was found in the answer.",
    Verdict.SYNTAX_ERROR: "The Python code does not parse.",
    Verdict.REJECTED: "The code breaks a rule of the task.",
    Verdict.BUILD_FAILED: "The extension does not compile or link.",
    Verdict.LOAD_FAILED: "The program fails while it is imported.",
    Verdict.WRONG_INTERFACE: "`ModelNew` does not have the interface of the reference.",
    Verdict.WRONG_SHAPE: "An output or gradient has the wrong structure, shape, type or device.",
    Verdict.WRONG_VALUES: "The forward computes wrong values.",
    Verdict.WRONG_GRADIENTS: "The forward is right, but gradients are missing or wrong.",
    Verdict.RUNTIME_ERROR: "The code failed while it ran.",
    Verdict.OUT_OF_MEMORY: "The code asked for more memory than there is.",
    Verdict.TIMED_OUT: "The code did not come to an end in time.",
    Verdict.RACY: "The result depends on the order in which threads run.",
    Verdict.TAMPERED: "The run interfered with the judgement, or its results cannot be real.",
    Verdict.UNSUPPORTED: "The emulated device cannot run this code; nothing is said about it.",
}


def render_feedback(evaluation: Evaluation, candidate: str) -> str:
    """The turn that answers an evaluation, as Markdown.

    Args:
        evaluation: What came of the candidate.
        candidate: Its text, in whose lines the findings give their places.
    """
    secret = evaluation.verdict is Verdict.TAMPERED
    failed = [] if secret else _failed(evaluation.trials)
    return _render(
        "feedback.md.j2",
        verdict=evaluation.verdict,
        meaning=_MEANING[evaluation.verdict],
        passed=evaluation.passed,
        problem=one_line(evaluation.problem),
        device=f"{one_line(evaluation.device.name)} ({evaluation.device.kind})",
        stage=evaluation.stage,
        findings=[
            _finding(f, candidate.split("\n"), secret=secret)
            for f in evaluation.findings[:MOST_FINDINGS]
        ],
        findings_left_out=max(0, len(evaluation.findings) - MOST_FINDINGS),
        comparisons=[_comparison(t, c) for t, c in failed[:MOST_COMPARISONS]],
        comparisons_left_out=max(0, len(failed) - MOST_COMPARISONS),
        trials=len(evaluation.trials),
        trials_passed=sum(t.passed for t in evaluation.trials),
        speedups=[_speedup(s, score_mode(evaluation)) for s in evaluation.speedups],
        hints=_hints(evaluation),
    )


def _finding(finding: Finding, lines: Sequence[str], *, secret: bool) -> dict[str, object]:
    place = finding.place
    quoted, where = None, ""
    if place is not None and place.line <= len(lines):
        last = min(max(place.end_line or place.line, place.line), place.line + 4, len(lines))
        quoted = "\n".join(lines[place.line - 1 : last])
        where = f"line {place.line}" if last == place.line else f"lines {place.line}-{last}"
    detail = "" if secret else finding.detail.strip()
    if len(detail) > MOST_DETAIL:
        half = MOST_DETAIL // 2
        detail = f"{detail[:half]}\n[...]\n{detail[-half:]}"
    return {
        "severity": finding.severity,
        "rule": finding.rule,
        "where": where,
        "message": finding.message,
        "advice": finding.advice,
        "lines": quoted if quoted and quoted.strip() else None,
        "detail": detail,
    }


def _failed(trials: Iterable[Trial]) -> list[tuple[Trial, Comparison]]:
    return [(t, c) for t in trials for c in t.comparisons if not c.passed]


def _comparison(trial: Trial, comparison: Comparison) -> dict[str, object]:
    worst = ""
    if comparison.worst is not None:
        index = ", ".join(map(str, comparison.worst.index))
        worst = f"; furthest off is element [{index}], where you have {comparison.worst.got:.6g}"
    return {
        "case": trial.case,
        "draw": trial.draw,
        "tensor": comparison.tensor,
        "shape": f"({', '.join(map(str, comparison.shape))})",
        "error": _norms(comparison.error),
        "budget": _norms(comparison.budget),
        "worst": worst,
    }


def _norms(norms: Norms) -> dict[str, str]:
    def form(value: float) -> str:
        return f"{value:.2g}" if value < 1e300 else "not finite"

    return {"l2": form(norms.relative_l2), "maximum": form(norms.maximum), "tile": form(norms.tile)}


def _speedup(speedup: Speedup, score: Mode) -> dict[str, object]:
    return {
        "mode": speedup.mode.replace("_", " "),
        "speedup": f"{speedup.speedup:.3f}",
        "low": f"{speedup.low:.3f}",
        "high": f"{speedup.high:.3f}",
        "baseline": speedup.baseline,
        "reference_ms": f"{speedup.reference.milliseconds:.4g}",
        "candidate_ms": f"{speedup.candidate.milliseconds:.4g}",
        "is_score": speedup.mode is score and speedup.baseline == "eager",
    }


def _hints(evaluation: Evaluation) -> list[str]:
    if not evaluation.passed or not evaluation.speedups:
        return []
    hints = []
    forward, backward = evaluation.speedup(Mode.FORWARD), evaluation.speedup(Mode.BACKWARD)
    if forward and backward:
        slow, fast = sorted((forward, backward), key=lambda s: -s.candidate.milliseconds)
        hints.append(
            f"The {slow.mode} takes {slow.candidate.milliseconds:.4g} ms and the {fast.mode} "
            f"{fast.candidate.milliseconds:.4g} ms: work on the {slow.mode} first."
        )
    score = evaluation.speedup(score_mode(evaluation))
    if score is not None and score.low <= 1 <= score.high:
        hints.append("The interval of the score holds 1: this is no measurable gain yet.")
    elif score is not None and score.high < 1:
        hints.append("The reference is faster: look for uncoalesced reads and idle threads first.")
    hints.append(
        "Where memory decides: read and write every element once, in 16-byte accesses where the "
        "addresses are aligned, fuse passes, and save for the backward only what it needs."
    )
    hints.append(
        "Where arithmetic decides: keep tiles in shared memory and several results per thread in "
        "registers, overlap loads with arithmetic, and give every multiprocessor work."
    )
    return hints
