"""One correctness check: ask, let the worker answer into the arena, compare, and say what is off.

Does not: choose questions (see ``judge``), or trust anything that a worker says
about its answers beyond what decides that they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from harness.arena import name_of
from harness.oracle import comparison, draws
from harness.oracle.reference import Question, Target
from harness.oracle.session import Laid, Session
from harness.oracle.stop import Stop
from harness.records import (
    Comparison,
    Finding,
    GradientPolicy,
    Severity,
    Stage,
    TensorRole,
    Trial,
    Verdict,
)
from harness.wire import Message


@dataclass
class Outcome:
    """What came of one trial."""

    trial: Trial
    findings: list[Finding] = field(default_factory=list)
    verdict: Verdict | None = None
    """``None`` where it passed."""
    has_backward: bool = True


def run(session: Session, question: Question, policy: GradientPolicy) -> Outcome:
    """Run one trial.

    Raises:
        Stop: the worker raised, died or hung, or its outputs have the wrong form.
    """
    laid = session.lay(question)
    session.write_weights(laid.weights)
    differentiate = bool(question.gradients)
    facts = session.forward(laid, gradients=differentiate)
    _check_form(question, facts, session.candidate_device)
    outputs = [session.arena.view(slot).clone() for slot in laid.outputs]
    buffers = [session.arena.view(slot).clone() for slot in laid.buffers.values()]
    compared = [_compare(t, g) for t, g in zip(question.outputs, outputs, strict=True)]
    compared += [_compare(t, g) for t, g in zip(question.buffers, buffers, strict=True)]
    outcome = Outcome(_trial(question, compared))
    if not outcome.trial.passed:
        outcome.verdict = Verdict.WRONG_VALUES
        outcome.findings = [_explain(question, c, Stage.VALUES) for c in compared if not c.passed]
        return outcome
    if differentiate:
        outcome.has_backward = any(bool(f.get("requires_grad")) for f in facts)
        if outcome.has_backward or policy is GradientPolicy.REQUIRED:
            _gradients(session, laid, outcome, outputs)
    _untouched(session, laid, outcome)
    return outcome


def _gradients(session: Session, laid: Laid, outcome: Outcome, outputs: list[torch.Tensor]) -> None:
    question = laid.question
    if not outcome.has_backward:
        outcome.verdict = Verdict.WRONG_GRADIENTS
        outcome.findings.append(_no_backward())
        return
    if question.draw.interleaved:
        session.interleave(laid)
        _kept(session, laid, outcome, outputs, "a later forward")
    session.reveal_cotangents(laid)
    facts = session.backward(laid)
    _kept(session, laid, outcome, outputs, "its backward")
    missing = [t for n, t in question.gradients.items() if not isinstance(facts.get(n), dict)]
    missing = [t for t in missing if bool((t.values != 0).any())]
    if missing:
        outcome.verdict = outcome.verdict or Verdict.WRONG_GRADIENTS
        outcome.findings += [_missing(question, t) for t in missing]
        return
    compared = []
    for name, target in question.gradients.items():
        found = facts.get(name)
        if isinstance(found, dict):
            _check_gradient(question, target, found)
            got = session.arena.view(laid.gradients[name]).clone()
            compared.append(_compare(target, got))
    outcome.trial = _trial(question, [*outcome.trial.comparisons, *compared])
    wrong = [c for c in compared if not c.passed]
    if wrong:
        outcome.verdict = outcome.verdict or Verdict.WRONG_GRADIENTS
        outcome.findings += [_explain(question, c, Stage.GRADIENTS) for c in wrong]


def _kept(
    session: Session, laid: Laid, outcome: Outcome, outputs: list[torch.Tensor], by: str
) -> None:
    """Outputs must hold what they held: the caller still has them."""
    changed = laid.changed_outputs(session.arena, outputs)
    if not changed or outcome.verdict is not None:
        return
    question = laid.question
    names = ", ".join(question.outputs[i].name for i in changed)
    outcome.verdict = Verdict.WRONG_VALUES
    outcome.findings.append(
        Finding(
            rule="values.output_changed",
            severity=Severity.ERROR,
            stage=Stage.VALUES,
            message=f"On case {question.case.name!r} ({question.draw.name} inputs) {by} "
            f"overwrote what the forward had returned ({names}).",
            advice="Write to a new tensor in every call: the caller still holds the output.",
        )
    )


def _untouched(session: Session, laid: Laid, outcome: Outcome) -> None:
    """Inputs must hold what they held, and nothing may be written around them."""
    if outcome.verdict is not None:
        return
    where = f"On case {laid.question.case.name!r} ({laid.question.draw.name} inputs)"
    changed = laid.changed_inputs(session.arena)
    if changed:
        outcome.verdict = Verdict.WRONG_VALUES
        names = ", ".join(str(i) for i in changed)
        outcome.findings.append(
            Finding(
                rule="values.input_changed",
                severity=Severity.ERROR,
                stage=Stage.VALUES,
                message=f"{where} the candidate overwrote its input ({names}).",
                advice="Write to a tensor of your own; the caller still needs its input.",
            )
        )
    elif laid.damaged(session.arena):
        outcome.verdict = Verdict.WRONG_VALUES
        outcome.findings.append(
            Finding(
                rule="values.out_of_bounds",
                severity=Severity.ERROR,
                stage=Stage.VALUES,
                message=f"{where} memory around an input was written to.",
                advice="Check every index that is written against the tensor's sizes.",
            )
        )


def judge_outputs(question: Question, outputs: list[torch.Tensor]) -> list[Comparison]:
    """Compare outputs that were copied before (of a timed call)."""
    return [_compare(t, g) for t, g in zip(question.outputs, outputs, strict=True)]


def judge_gradients(question: Question, gradients: dict[str, torch.Tensor]) -> list[Comparison]:
    """Compare gradients that were copied before (of a timed call)."""
    return [_compare(question.gradients[n], g) for n, g in gradients.items()]


def _trial(question: Question, compared: list[Comparison]) -> Trial:
    return Trial(
        case=question.case.name,
        draw=question.draw.name,
        seed=question.seed,
        comparisons=tuple(compared),
    )


def _compare(target: Target, got: torch.Tensor) -> Comparison:
    error = target.distance(got)
    passed = error.within(target.budget)
    return Comparison(
        tensor=target.name,
        role=target.role,
        shape=tuple(target.like.shape),
        error=error,
        reference_error=target.reference_error,
        budget=target.budget,
        worst=None if passed else comparison.worst(got.double(), target.values),
    )


def _check_form(question: Question, facts: list[Message], device: str) -> None:
    """Structure, shape, dtype and device of the outputs.

    Raises:
        Stop: with ``wrong_shape``.
    """
    where = f"On case {question.case.name!r} ({question.draw.name} inputs)"
    if len(facts) != len(question.outputs):
        raise _wrong_form(
            f"{where} forward returned {len(facts)} tensor(s); "
            f"the reference returns {len(question.outputs)}."
        )
    for target, fact in zip(question.outputs, facts, strict=True):
        wanted: dict[str, Any] = {
            "path": target.name,
            "shape": list(target.like.shape),
            "dtype": name_of(target.like.dtype),
            "device": device,
        }
        for what, value in wanted.items():
            if fact.get(what) != value:
                name = "place in the result" if what == "path" else what
                raise _wrong_form(
                    f"{where} the {name} of {target.name} is {_show(fact.get(what))}; "
                    f"the reference's is {_show(value)}."
                )


def _show(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, list) else str(value)[:200]


def _wrong_form(message: str) -> Stop:
    finding = Finding(
        rule="R07",
        severity=Severity.ERROR,
        stage=Stage.SHAPE,
        message=message,
        advice="Return the same structure, shapes, dtypes and device as the reference.",
    )
    return Stop(Verdict.WRONG_SHAPE, Stage.SHAPE, finding)


def _check_gradient(question: Question, target: Target, fact: Message) -> None:
    wanted = {"shape": list(target.like.shape), "dtype": name_of(target.like.dtype)}
    for what, value in wanted.items():
        if fact.get(what) != value:
            finding = Finding(
                rule="gradients.form",
                severity=Severity.ERROR,
                stage=Stage.GRADIENTS,
                message=f"On case {question.case.name!r} the {what} of the {target.name} is "
                f"{_show(fact.get(what))}; it must be {_show(value)}.",
                advice="A gradient has the shape and dtype of the tensor that it belongs to.",
            )
            raise Stop(Verdict.WRONG_GRADIENTS, Stage.GRADIENTS, finding)


def _no_backward() -> Finding:
    return Finding(
        rule="R06",
        severity=Severity.ERROR,
        stage=Stage.GRADIENTS,
        message="The output does not require a gradient although the input does: "
        "there is no backward.",
        advice="Wrap the kernel in a torch.autograd.Function with a backward of its own "
        "(or judge with --gradients optional).",
    )


def _missing(question: Question, target: Target) -> Finding:
    return Finding(
        rule="gradients.missing",
        severity=Severity.ERROR,
        stage=Stage.GRADIENTS,
        message=f"On case {question.case.name!r} there is no {target.name}.",
        advice="Return a gradient from backward for every input and parameter that needs one.",
    )


def _explain(question: Question, found: Comparison, stage: Stage) -> Finding:
    worst = found.worst
    at = ""
    if worst is not None:
        at = f" Worst at {list(worst.index)}: got {worst.got:.6g}, expected {worst.expected:.6g}."
    return Finding(
        rule=f"{stage}.mismatch",
        severity=Severity.ERROR,
        stage=stage,
        message=f"On case {question.case.name!r} ({question.draw.name} inputs) the "
        f"{found.tensor} of shape {tuple(found.shape)} is wrong: {_distance(found)}.{at}",
        advice=_advice(question, found),
    )


def _distance(found: Comparison) -> str:
    if found.error.relative_l2 >= 1e300:
        return "NaN or infinity where there should be a number (or the other way round)"
    parts = []
    for name, words in (
        ("relative_l2", "relative L2 error"),
        ("maximum", "largest error"),
        ("tile", "worst tile"),
    ):
        error, budget = getattr(found.error, name), getattr(found.budget, name)
        if error > budget:
            parts.append(f"{words} {error:.3g} (budget {budget:.3g})")
    return ", ".join(parts)


def _advice(question: Question, found: Comparison) -> str:
    draw = question.draw
    if draw.late:
        return (
            "Only a late producer made it wrong: launch on "
            "at::cuda::getCurrentCUDAStream(), not on the default stream."
        )
    if draw.interleaved and found.role in (TensorRole.GRAD_INPUT, TensorRole.GRAD_PARAMETER):
        return (
            "Only another forward before this backward made it wrong: something is kept from one "
            "forward to the next; save tensors for the backward with ctx.save_for_backward."
        )
    if draw.input_mean:
        return (
            "Only the mean of the values differs, which is large beside their spread: subtract it "
            "before squaring (two passes, or Welford's method), not its square from the mean of "
            "the squares."
        )
    if draw.inputs is not draws.Layout.CONTIGUOUS:
        return "Use the strides and the storage offset, or call .contiguous() first."
    if draw.special:
        return "NaN and infinities must come out as the reference lets them (fmaxf drops NaN)."
    if draw.input_scale != 1.0:
        return (
            "Only the scale of the values differs: computing in half precision, or without "
            "subtracting a maximum or mean, loses such values."
        )
    if found.role is TensorRole.BUFFER:
        return "Update the buffers as the reference does."
    if found.error.relative_l2 >= 1e300:
        return "Outputs are poisoned with NaN: an element that no thread writes stays NaN."
    if found.error.relative_l2 < 1e-2:
        return "Close, but less precise than the declared precision: accumulate in float32."
    if question.weights:
        return (
            "Check the index arithmetic at the worst element. Weights are drawn anew after "
            "construction: read them at every call."
        )
    return (
        "Check the index arithmetic at the worst element, and that nothing is kept from one "
        "call to the next."
    )
