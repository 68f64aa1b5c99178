"""Answers that a problem must refuse, and precisions that it must tell apart.

A dummy answers a question as a lazy or a less precise candidate would: some with wrong outputs
beside right gradients, some with right outputs beside wrong gradients, some with both as another
precision would make them. One that has no meaning for a question does not answer.

Does not: compare, or meet a candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from harness.oracle.comparison import round_to_tf32
from harness.oracle.reference import Question, Reference
from harness.records import Tf32Policy
from harness.worker.trees import flatten

Answer = tuple[list[torch.Tensor], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Asked:
    """A question, and the same with other inputs."""

    reference: Reference
    question: Question
    other: Question

    @property
    def right(self) -> Answer:
        """The float64 values in the tensors' own dtypes."""
        return _answer(self.question)


@dataclass(frozen=True)
class Dummy:
    """One way of answering."""

    name: str
    must: str
    """``pass`` or ``fail``."""
    answer: Callable[[Asked], Answer | None]


def dummies(tf32: Tf32Policy) -> Iterator[Dummy]:
    """Every dummy, with what it must do under a policy."""
    yield Dummy("the float64 values, rounded once", "pass", lambda asked: asked.right)
    yield Dummy("zeros", "fail", _outputs(torch.zeros_like))
    yield Dummy("ones", "fail", _outputs(torch.ones_like))
    yield Dummy("the mean of the right output everywhere", "fail", _outputs(_mean))
    yield Dummy("the first input of the output's shape", "fail", _identity)
    yield Dummy("the output for other inputs", "fail", _stale)
    yield Dummy("gradients of zero", "fail", _gradients(torch.zeros_like))
    yield Dummy("gradients for other inputs", "fail", _stale_gradients)
    allowed = "pass" if tf32 is Tf32Policy.ALLOWED else "fail"
    yield Dummy("operands in TF32", allowed, _rounded(round_to_tf32))
    yield Dummy("operands in bfloat16", "fail", _rounded(_through(torch.bfloat16)))
    yield Dummy("operands in float16", "fail", _rounded(_through(torch.float16)))


def _answer(question: Question) -> Answer:
    outputs = [t.values.to(t.like.dtype) for t in question.outputs]
    return outputs, {n: t.values.to(t.like.dtype) for n, t in question.gradients.items()}


def _outputs(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[Asked], Answer | None]:
    """Wrong outputs beside right gradients."""

    def answer(asked: Asked) -> Answer:
        outputs, gradients = asked.right
        return [change(t) for t in outputs], gradients

    return answer


def _gradients(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[Asked], Answer | None]:
    """Right outputs beside wrong gradients."""

    def answer(asked: Asked) -> Answer | None:
        outputs, gradients = asked.right
        if not gradients:
            return None
        return outputs, {n: change(t) for n, t in gradients.items()}

    return answer


def _mean(tensor: torch.Tensor) -> torch.Tensor:
    finite = tensor[torch.isfinite(tensor)] if tensor.is_floating_point() else tensor
    mean = finite.double().mean() if finite.numel() else torch.zeros(())
    return torch.full_like(tensor, mean.item())


def _identity(asked: Asked) -> Answer | None:
    outputs, gradients = asked.right
    inputs = [t for _, t in flatten(asked.question.args) if t.is_floating_point()]
    made = []
    for output in outputs:
        same = next((t for t in inputs if t.shape == output.shape), None)
        if same is None:
            return None
        made.append(same.to(output.dtype))
    return made, gradients


def _stale(asked: Asked) -> Answer | None:
    return _answer(asked.other)[0], asked.right[1]


def _stale_gradients(asked: Asked) -> Answer | None:
    outputs, gradients = asked.right
    other = _answer(asked.other)[1]
    if not gradients or gradients.keys() != other.keys():
        return None
    return outputs, other


def _rounded(prepare: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Asked], Answer | None]:
    """Everything computed exactly, from operands that were rounded."""

    def answer(asked: Asked) -> Answer:
        return _answer(asked.reference.answer(asked.question, gradients=True, prepare=prepare))

    return answer


def _through(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.to(dtype).to(tensor.dtype)
