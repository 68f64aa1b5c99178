"""Records that the validators accept, for tests that need one and care about a part of it.

Every function gives a valid record and takes whatever is to be different.
"""

from __future__ import annotations

from typing import Any

from harness.records import (
    Comparison,
    Device,
    DeviceKind,
    Evaluation,
    Finding,
    Fingerprints,
    GradientPolicy,
    Gradients,
    Latency,
    Mode,
    Norms,
    Policy,
    Severity,
    Speedup,
    Stage,
    TensorRole,
    Trial,
    Verdict,
)

STAGE_OF = {
    Verdict.PASSED: Stage.AUDIT,
    Verdict.NO_CODE: Stage.EXTRACT,
    Verdict.SYNTAX_ERROR: Stage.SCREEN,
    Verdict.REJECTED: Stage.SCREEN,
    Verdict.BUILD_FAILED: Stage.BUILD,
    Verdict.LOAD_FAILED: Stage.LOAD,
    Verdict.WRONG_INTERFACE: Stage.INTERFACE,
    Verdict.WRONG_SHAPE: Stage.SHAPE,
    Verdict.WRONG_VALUES: Stage.VALUES,
    Verdict.WRONG_GRADIENTS: Stage.GRADIENTS,
    Verdict.RUNTIME_ERROR: Stage.VALUES,
    Verdict.OUT_OF_MEMORY: Stage.VALUES,
    Verdict.TIMED_OUT: Stage.VALUES,
    Verdict.RACY: Stage.VALUES,
    Verdict.TAMPERED: Stage.VALUES,
    Verdict.UNSUPPORTED: Stage.BUILD,
}
"""A stage at which each verdict can be reached."""


def norms(value: float) -> Norms:
    """The same distance by every norm."""
    return Norms(relative_l2=value, maximum=value, tile=value)


def comparison(
    role: TensorRole = TensorRole.OUTPUT, *, error: float = 0.0, budget: float = 1e-5, **more: Any
) -> Comparison:
    """One compared tensor; it passes while ``error`` is within ``budget``."""
    parts: dict[str, Any] = {
        "tensor": str(role),
        "role": role,
        "shape": (2, 3),
        "error": norms(error),
        "reference_error": norms(0.0),
        "budget": norms(budget),
    }
    return Comparison(**parts | more)


def trial(*comparisons: Comparison, **more: Any) -> Trial:
    """One trial, of an output and an input's gradient where nothing else is given."""
    compared = comparisons or (comparison(), comparison(TensorRole.GRAD_INPUT))
    return Trial(**{"case": "plain", "draw": "mixed", "seed": 7, "comparisons": compared} | more)


def latency(milliseconds: float) -> Latency:
    """A latency whose samples lie 10 % around it."""
    return Latency(
        milliseconds=milliseconds,
        fastest=0.9 * milliseconds,
        slowest=1.1 * milliseconds,
        samples=24,
    )


def speedup(ratio: float = 2.0, mode: Mode = Mode.FORWARD, **more: Any) -> Speedup:
    """A candidate that takes 1 ms beside a reference that takes ``ratio`` ms."""
    parts: dict[str, Any] = {
        "mode": mode,
        "reference": latency(ratio),
        "candidate": latency(1.0),
        "low": 0.99 * ratio,
        "high": 1.01 * ratio,
        "pairs": 12,
        "outer_reference_ms": ratio + 0.5,
        "outer_candidate_ms": 1.5,
        "outputs_judged": 4,
    }
    return Speedup(**parts | more)


def finding(
    severity: Severity = Severity.ERROR, stage: Stage = Stage.VALUES, **more: Any
) -> Finding:
    """An observation."""
    parts: dict[str, Any] = {"rule": "values.mismatch", "message": "It is so.", "advice": ""}
    return Finding(**parts | {"severity": severity, "stage": stage} | more)


def device(kind: DeviceKind = DeviceKind.CPU, **more: Any) -> Device:
    """A device of a kind."""
    return Device(**{"kind": kind, "name": "A processor", "torch": "2.13.0"} | more)


def policy(gradients: GradientPolicy = GradientPolicy.REQUIRED, **more: Any) -> Policy:
    """Terms of a judgement."""
    return Policy(**{"gradients": gradients, "sandbox": "namespaces"} | more)


def fingerprints(**more: Any) -> Fingerprints:
    """Hashes of what was judged."""
    return Fingerprints(
        **{"generation": "g" * 64, "candidate": "c" * 64, "problem": "p" * 64} | more
    )


def evaluation(verdict: Verdict = Verdict.PASSED, **more: Any) -> Evaluation:
    """An evaluation that ends in ``verdict``: with trials if it passed, with a reason if not."""
    passed = verdict is Verdict.PASSED
    stage = more.get("stage", STAGE_OF[verdict])
    parts: dict[str, Any] = {
        "harness_version": "0.1.0",
        "generation": "relu/answer.md",
        "problem": "relu",
        "fingerprints": fingerprints(candidate=None if verdict is Verdict.NO_CODE else "c" * 64),
        "verdict": verdict,
        "stage": stage,
        "device": device(),
        "policy": policy(),
        "findings": () if passed else (finding(stage=stage),),
        "gradients": Gradients.CHECKED if passed else Gradients.NOT_REACHED,
        "trials": (trial(),) if passed else (),
    }
    return Evaluation(**parts | more)


def clocked(*speedups: Speedup, **more: Any) -> Evaluation:
    """A passed evaluation with its timing."""
    return evaluation(stage=Stage.TIME, speedups=speedups or (speedup(),), **more)
