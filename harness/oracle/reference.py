"""Runs the reference: in float64 for the expected values, as declared for its own error.

For one trial it answers: every tensor that a candidate must produce, its float64
values, the reference's own distance from them, and the budget that follows.

Does not: meet a candidate.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from harness.errors import ProblemError
from harness.oracle import comparison, draws
from harness.oracle.draws import Draw
from harness.oracle.problem import Case, Problem
from harness.records import Norms, TensorRole, Tf32Policy
from harness.worker.census import Census
from harness.worker.tf32 import allow_tf32
from harness.worker.trees import flatten

_HOPELESS = 1e-2
"""A reference that is itself this far off (relative L2) says nothing about a candidate."""
_FEW = 16
"""So few values can be small all at once by chance: of a dot product by a factor of a hundred
once in a hundred times, of sixteen once in 10^20, and a rounding error that is held against
them alone would look as much larger."""
_SAMPLES = 5
"""Fresh draws that tell their typical size; the median, so that no odd one makes it large."""


@dataclass
class Target:
    """One tensor that a candidate must produce."""

    name: str
    role: TensorRole
    like: torch.Tensor
    """The reference's own tensor: shape and dtype that are expected."""
    values: torch.Tensor
    """Its float64 values."""
    reference_error: Norms
    budget: Norms
    scale: float
    """Stands in for the size of the values where the reference cannot tell them from zero."""
    typical: float = 0.0
    """The least size that the values count as: what they usually have, if they are few."""

    def distance(self, got: torch.Tensor) -> Norms:
        """How far an answer is from the values."""
        return comparison.norms(got.double(), self.values, scale=self.scale, typical=self.typical)


@dataclass
class Question:
    """One trial as the oracle knows it: what is asked, and what must come back."""

    case: Case
    draw: Draw
    seed: int
    args: list[Any]
    """The forward's arguments; private to the oracle."""
    weights: dict[str, torch.Tensor]
    cotangents: list[torch.Tensor]
    wanted: list[bool]
    """Which input tensors require a gradient, in order."""
    wanted_parameters: list[str]
    outputs: list[Target]
    buffers: list[Target]
    gradients: dict[str, Target] = field(default_factory=dict)
    """By input index (as text) or parameter name; empty without gradients."""
    other_args: list[Any] = field(default_factory=list)
    """The arguments of a forward that comes before the backward (interleaved draw only)."""
    operators: frozenset[str] = frozenset()
    """PyTorch's, of the reference's forward."""


class Reference:
    """The reference's model for one case, on the oracle's device."""

    def __init__(self, problem: Problem, case: Case, device: torch.device) -> None:
        self.problem = problem
        self.case = case
        self._device = device
        with torch.device("cpu"):
            self.model = problem.construct(case).to(device)
        state = self.model.state_dict()
        self._initial = {name: tensor.clone() for name, tensor in state.items()}

    def ask(self, draw: Draw, seed: int, *, gradients: bool) -> Question | None:
        """A question of one draw; ``None`` where the draw has no meaning for the problem.

        Raises:
            ProblemError: the reference fails on its own declared inputs.
        """
        torch.manual_seed(seed)
        args = self._arguments(draw)
        draws.redraw_weights(self.model, self._initial, draw.weight_scale)
        gradients = gradients and not draw.special
        try:
            question = self._ask(draw, seed, args, gradients)
            if question is None and draw.cotangents is draws.Layout.EXPANDED:
                # The gradient of a constant cotangent can vanish (softmax): ask with another.
                dense = replace(draw, cotangents=draws.Layout.OFFSET)
                question = self._ask(dense, seed, args, gradients)
            return question
        except ProblemError:
            raise
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if draw is not draws.DECLARED:
                return None
            raise ProblemError(
                f"{self.problem.file.path}: the reference fails on case {self.case.name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def work(self, question: Question) -> tuple[int | None, int | None]:
        """Floating-point operations and compulsory bytes of one forward, as the problem states.

        Raises:
            ProblemError: its formula fails.
        """
        formulas = self.problem.forward_flops, self.problem.forward_bytes
        try:
            flops, moved = (
                None if f is None else int(f(self.model, *question.args)) for f in formulas
            )
        except Exception as error:
            raise ProblemError(
                f"{self.problem.file.path}: forward_flops or forward_bytes raises "
                f"{type(error).__name__}: {error}"
            ) from error
        return flops, moved

    def again(self, question: Question, seed: int, times: int) -> list[Question]:
        """The same question with new inputs and cotangents, and no expected values yet."""
        torch.manual_seed(seed)
        made = []
        for _ in range(times):
            args = self._arguments(question.draw)
            cotangents = [draws.cotangent(question.draw, c) for c in question.cotangents]
            made.append(replace(question, seed=seed, args=args, cotangents=cotangents))
        return made

    def answer(
        self,
        question: Question,
        *,
        gradients: bool,
        prepare: Callable[[torch.Tensor], torch.Tensor] = lambda t: t,
    ) -> Question:
        """The expected values of such a question, with the budgets that it had before.

        Without ``gradients`` those of the outputs only. ``prepare`` rounds what goes in.
        """
        exact = self._in_float64(
            question.args,
            question.weights,
            question.wanted if gradients else [False] * len(question.wanted),
            question.wanted_parameters if gradients else [],
            question.cotangents,
            prepare,
        )
        outputs = [
            replace(t, values=exact.outputs[i][1].detach()) for i, t in enumerate(question.outputs)
        ]
        targets = question.gradients.items() if gradients else ()
        found = {n: replace(t, values=exact.gradient(n)) for n, t in targets}
        return replace(question, outputs=outputs, gradients=found)

    def _arguments(self, draw: Draw) -> list[Any]:
        with torch.device(self._device):
            declared = self.case.make_inputs()
        return [draws.apply(draw, _map(a, self._place)) for a in declared]

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the oracle's device, in the problem's dtype."""
        dtype = self.problem.dtype if tensor.is_floating_point() else None
        return tensor.to(self._device, dtype)

    def _ask(self, draw: Draw, seed: int, args: list[Any], gradients: bool) -> Question | None:
        leaves = [t for _, t in flatten(args, "input")]
        wanted = _wanted([t.is_floating_point() for t in leaves], draw, gradients)
        parameters = [n for n, p in self.model.named_parameters() if p.requires_grad]
        if draw.first_gradient_only:
            parameters = parameters[:1] if not any(wanted) or len(parameters) > 1 else parameters
        parameters = parameters if gradients else []
        if draw.frozen_inputs and not parameters:
            return None
        weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        with _precision(self.problem.tf32):
            with Census() as census:
                like = _run(self.model, args, wanted, parameters, None)
            if not like.outputs:
                raise ProblemError(f"{self.problem.file.path}: Model.forward returns no tensor")
            cotangents = [draws.cotangent(draw, t) for _, t in like.outputs]
            self.model.load_state_dict(weights)
            other_args = self._arguments(draw) if draw.interleaved else []
            native = _run(self.model, args, wanted, parameters, cotangents, other_args)
            if draw.interleaved and not native.gradients:
                return None
        exact = self._in_float64(args, weights, wanted, parameters, cotangents, lambda t: t)
        runs = [native]
        for prepare in _roundings(self.problem.tf32, draw):
            runs.append(self._in_float64(args, weights, wanted, parameters, cotangents, prepare))
        self.model.load_state_dict(weights)
        if not draw.special and draw is not draws.DECLARED and not _finite(exact):
            return None
        question = Question(
            self.case, draw, seed, args, weights, cotangents, wanted, parameters, [], []
        )
        question.other_args = other_args
        question.operators = frozenset(census.sizes)
        input_scale = max((_rms(t) for t in leaves if t.is_floating_point()), default=1.0)
        cotangent_scale = max((_rms(t) for t in cotangents), default=1.0)
        samples = self._samples(question) if exact.few().tensors() else []
        self._fill(question, native, exact, runs, samples, input_scale, cotangent_scale)
        targets = [*question.outputs, *question.gradients.values()]
        hopeless = [t for t in targets if t.reference_error.relative_l2 > _HOPELESS]
        if hopeless and draw is draws.DECLARED:
            raise ProblemError(
                f"{self.problem.file.path}: on case {self.case.name!r} the reference's own "
                f"{hopeless[0].name} is {hopeless[0].reference_error.relative_l2:.2g} off its "
                "float64 values, so it cannot judge: is it random (dropout: declare "
                "TRAINING = False) or out of range?"
            )
        return None if hopeless else question

    def _fill(
        self,
        question: Question,
        native: _Run,
        exact: _Run,
        runs: list[_Run],
        samples: list[_Run],
        input_scale: float,
        cotangent_scale: float,
    ) -> None:
        def target(
            name: str, role: TensorRole, pick: Callable[[_Run], torch.Tensor], scale: float
        ) -> Target:
            like, values = pick(native), pick(exact).double()
            few = samples and 0 < values.numel() <= _FEW
            typical = statistics.median(_rms(pick(s)) for s in samples) if few else 0.0
            if not _cancelled(like, values, scale, typical):
                scale = 0.0
            none = Norms(relative_l2=0, maximum=0, tile=0)
            made = Target(name, role, like.detach(), values, none, none, scale, typical)
            for run in runs:
                made.reference_error = comparison.larger(
                    made.reference_error, made.distance(pick(run))
                )
            made.budget = comparison.budget(
                made.reference_error, self.problem.tolerance, like.dtype
            )
            return made

        output, buffer, gradient = TensorRole.OUTPUT, TensorRole.BUFFER, TensorRole.GRAD_INPUT
        for i, (path, _) in enumerate(native.outputs):
            question.outputs.append(target(path, output, partial(_Run.output, at=i), input_scale))
        for name in native.buffers:
            pick = partial(_Run.buffer, name=name)
            question.buffers.append(target(name, buffer, pick, input_scale))
        for name in [n for n, found in native.gradients.items() if found is not None]:
            pick = partial(_Run.gradient, name=name)
            words = f"gradient of input {name}" if name.isdigit() else f"gradient of {name}"
            role = gradient if name.isdigit() else TensorRole.GRAD_PARAMETER
            question.gradients[name] = target(words, role, pick, cotangent_scale)

    def _samples(self, question: Question) -> list[_Run]:
        """What is few in the float64 answers to other inputs and cotangents of the draw."""
        like, made = question.cotangents, []
        for _ in range(_SAMPLES):
            args = self._arguments(question.draw)
            cotangents = [draws.cotangent(question.draw, c) for c in like]
            terms = question.weights, question.wanted, question.wanted_parameters
            made.append(self._in_float64(args, *terms, cotangents, lambda t: t).few())
        return made

    def _in_float64(
        self,
        args: list[Any],
        weights: dict[str, torch.Tensor],
        wanted: list[bool],
        parameters: list[str],
        cotangents: list[torch.Tensor],
        prepare: Callable[[torch.Tensor], torch.Tensor],
    ) -> _Run:
        def widen(tensor: torch.Tensor) -> torch.Tensor:
            return prepare(tensor).double() if tensor.is_floating_point() else tensor

        model = copy.deepcopy(self.model).double()
        names = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        with torch.no_grad():
            for name, tensor in model.state_dict(keep_vars=True).items():
                source = weights[name]
                tensor.copy_(widen(source) if name in names else source)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return _run(
                model,
                [_map(a, widen) for a in args],
                wanted,
                parameters,
                [widen(c) for c in cotangents],
            )
        finally:
            torch.set_default_dtype(default)


@dataclass
class _Run:
    """What one run of a model gave."""

    outputs: list[tuple[str, torch.Tensor]]
    gradients: dict[str, torch.Tensor | None]
    buffers: dict[str, torch.Tensor]

    def output(self, at: int) -> torch.Tensor:
        return self.outputs[at][1].detach()

    def buffer(self, name: str) -> torch.Tensor:
        return self.buffers[name]

    def gradient(self, name: str) -> torch.Tensor:
        found = self.gradients[name]
        if found is None:
            raise RuntimeError(f"the gradient of {name} is there in one precision only")
        return found

    def tensors(self) -> list[torch.Tensor]:
        """All that are there and not empty."""
        outputs = [t for _, t in self.outputs]
        made = [*outputs, *self.buffers.values(), *self.gradients.values()]
        return [t for t in made if t is not None and t.numel()]

    def few(self) -> _Run:
        """The floating tensors of few values; nothing in the place of others."""

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            few = tensor.is_floating_point() and tensor.numel() <= _FEW
            return tensor.detach() if few else torch.empty(0)

        return _Run(
            [(path, keep(t)) for path, t in self.outputs],
            {name: None if t is None else keep(t) for name, t in self.gradients.items()},
            {name: keep(t) for name, t in self.buffers.items()},
        )


def _run(
    model: nn.Module,
    args: list[Any],
    wanted: list[bool],
    parameters: list[str],
    cotangents: list[torch.Tensor] | None,
    other_args: Sequence[Any] = (),
) -> _Run:
    """Forward, and backward where cotangents are given; arguments are copied first.

    With ``other_args``, another forward comes between, after the buffers were looked at.
    """
    copied, leaves = _copied(args, wanted)
    differentiate = cotangents is not None and (any(wanted) or bool(parameters))
    with torch.set_grad_enabled(differentiate):
        outputs = flatten(model(*copied))
    buffers = {n: b.detach().clone() for n, b in model.named_buffers() if n in model.state_dict()}
    if not differentiate or cotangents is None:
        return _Run(outputs, {}, buffers)
    named = dict(model.named_parameters())
    targets = [(str(i), t) for i, t in enumerate(leaves) if t.requires_grad]
    targets += [(name, named[name]) for name in parameters]
    pairs = [(t, g) for (_, t), g in zip(outputs, cotangents, strict=True) if t.requires_grad]
    if not pairs:
        return _Run([(p, t.detach()) for p, t in outputs], {}, buffers)
    if other_args:
        model(*_copied(other_args, wanted)[0])
    found = torch.autograd.grad(
        [t for t, _ in pairs], [t for _, t in targets], [g for _, g in pairs], allow_unused=True
    )
    gradients: dict[str, torch.Tensor | None] = {
        name: g for (name, _), g in zip(targets, found, strict=True)
    }
    return _Run([(p, t.detach()) for p, t in outputs], gradients, buffers)


def _copied(args: Sequence[Any], wanted: list[bool]) -> tuple[list[Any], list[torch.Tensor]]:
    """Arguments of one's own, and their tensors, of which the wanted require a gradient."""
    leaves: list[torch.Tensor] = []

    def leaf(tensor: torch.Tensor) -> torch.Tensor:
        copied = tensor.detach().clone().requires_grad_(wanted[len(leaves)])
        leaves.append(copied)
        return copied

    return [_map(a, leaf) for a in args], leaves


def _roundings(tf32: Tf32Policy, draw: Draw) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """What may be done to operands, so that the reference's error is at least what comes of it.

    Far from zero cutting operands off is worse than rounding them (all inputs shrink together),
    and most of the error is in what is small beside them.
    """
    allowed = tf32 is Tf32Policy.ALLOWED
    if allowed:
        yield comparison.round_to_tf32
    if draw.input_mean:
        yield comparison.round_to_serial_sums
    if allowed and draw.input_mean:
        yield comparison.truncate_to_tf32


@contextlib.contextmanager
def _precision(tf32: Tf32Policy) -> Iterator[None]:
    """The oracle's own flags, as the policy says."""
    allow_tf32(tf32 is Tf32Policy.ALLOWED)
    try:
        yield
    finally:
        allow_tf32(False)


def _cancelled(like: torch.Tensor, values: torch.Tensor, scale: float, typical: float) -> bool:
    """Whether the float64 values are what rounding leaves of zero, given the size of what goes in.

    Values that the reference itself resolves are values, however small (products of tiny
    inputs); a reference in float64 always agrees with itself, so there only size can tell.
    """
    if not bool((values != 0).any()):
        return True
    if like.dtype is not torch.float64:
        found = comparison.norms(like.double(), values, scale=0, typical=typical)
        return found.relative_l2 > _HOPELESS
    return max(_rms(values), typical) <= 4 * torch.finfo(torch.float64).eps * scale


def _wanted(floating: list[bool], draw: Draw, gradients: bool) -> list[bool]:
    if not gradients:
        return [False] * len(floating)
    if draw.frozen_inputs:
        return [False] * len(floating)
    if not draw.first_gradient_only:
        return floating
    first = floating.index(True) if True in floating else -1
    return [i == first for i in range(len(floating))]


def _map(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_map(v, change) for v in value)
    if isinstance(value, dict):
        return {k: _map(v, change) for k, v in value.items()}
    return value


def _finite(run: _Run) -> bool:
    tensors = [t for _, t in run.outputs] + [g for g in run.gradients.values() if g is not None]
    return all(bool(torch.isfinite(t).all()) for t in tensors)


def _rms(tensor: torch.Tensor) -> float:
    if not tensor.numel():
        return 0.0
    finite = torch.where(torch.isfinite(tensor), tensor, 0)
    return float(finite.double().square().mean().sqrt())
