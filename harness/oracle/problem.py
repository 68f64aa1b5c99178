"""A problem, executed: the reference's class, its cases, and what the file declares of itself.

Beside KernelBench's ``Model``, ``get_inputs`` and ``get_init_inputs``, a problem
file may declare (all optional, all at module level):

    CASES            {name: (constructor arguments, [input shapes] or a function of no arguments)}
    CPU_HEADLINE     the case that is clocked where there is no GPU
    TF32             "allowed" or "forbidden" (default)
    GRADIENTS        "required" (default), "optional" or "off"
    DTYPE            "float64" or another: of all floating inputs, weights and buffers
    SPECIAL_VALUES   True if NaN and infinities among the inputs must be kept
    TRAINING         False to judge in evaluation mode (default True)
    TOLERANCE        {"multiple": 3.0, "floor": 3e-5}, see ``comparison``
    forward_flops, forward_bytes    functions of (model, *inputs): the work of one forward

Does not: draw inputs for a trial (see ``draws``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import nn

from harness.arena import dtype_of
from harness.errors import ProblemError
from harness.problems import ProblemFile
from harness.records import GradientPolicy, Tf32Policy
from harness.worker import trees

HEADLINE = "headline"
MOST_EMULATED_ELEMENTS = 100_000
"""Elements of the inputs of the largest case that is run on an emulated device."""
MOST_PROBED_ELEMENTS = 25_000
"""The same of the case that goes through every draw there."""


@dataclass(frozen=True)
class Case:
    """One concrete set of constructor arguments and input shapes."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    make_inputs: Callable[[], list[Any]]
    """Draws the forward's arguments from torch's global generator, on the default device."""

    def elements(self) -> int:
        """Elements of all its input tensors together."""
        inputs = trees.flatten(self.make_inputs())
        return sum(tensor.numel() for _, tensor in inputs)


@dataclass(frozen=True)
class Tolerance:
    """How an error budget is made of the reference's own error."""

    multiple: float = 3.0
    """The budget is this many times the reference's own error …"""
    floor: float | None = None
    """… and at least this relative L2 error (by dtype, where not given)."""


@dataclass(frozen=True)
class Problem:
    """A problem file, executed."""

    file: ProblemFile
    model: type[nn.Module]
    headline: Case
    cases: tuple[Case, ...]
    """The small cases."""
    tf32: Tf32Policy
    gradients: GradientPolicy
    dtype: torch.dtype | None
    """What floating values are made in, where the file says so."""
    special_values: bool
    training: bool
    tolerance: Tolerance
    clocked: Case
    """The case that is clocked on this kind of device."""
    probe: Case
    """The case that is probed with every draw: large enough to hold special values."""
    forward_flops: Callable[..., int] | None
    forward_bytes: Callable[..., int] | None

    @classmethod
    def load(cls, file: ProblemFile, *, gpu: bool) -> Problem:
        """Execute a problem file.

        Raises:
            ProblemError: it cannot be executed, or declares something that has no meaning.
        """
        module = _execute(file)
        model = module.Model
        if not (isinstance(model, type) and issubclass(model, nn.Module)):
            raise ProblemError(f"{file.path}: Model is not a subclass of torch.nn.Module")
        args, kwargs = _arguments(
            file, "what get_init_inputs() returns", _call(file, module, "get_init_inputs")
        )
        make_inputs = _maker(file, "get_inputs()", module.get_inputs)
        headline = Case(HEADLINE, args, kwargs, make_inputs)
        cases = _cases(file, module)
        stand_in = _cpu_headline(file, module, headline, cases)
        return cls(
            file=file,
            model=model,
            headline=headline,
            cases=cases,
            tf32=_enum(file, module, "TF32", Tf32Policy, Tf32Policy.FORBIDDEN),
            gradients=_enum(file, module, "GRADIENTS", GradientPolicy, GradientPolicy.REQUIRED),
            dtype=_dtype(file, module),
            special_values=bool(getattr(module, "SPECIAL_VALUES", False)),
            training=bool(getattr(module, "TRAINING", True)),
            tolerance=_tolerance(file, module),
            clocked=headline if gpu else stand_in,
            probe=stand_in if stand_in in cases else (*cases, headline)[0],
            forward_flops=getattr(module, "forward_flops", None),
            forward_bytes=getattr(module, "forward_bytes", None),
        )

    def for_emulation(self) -> Problem:
        """The same problem with small cases only: an emulated device is a thousand times slower.

        Without small cases the headline is left, and is likely to be too much.
        """
        sizes = {case.name: case.elements() for case in self.cases}
        cases = tuple(c for c in self.cases if sizes[c.name] <= MOST_EMULATED_ELEMENTS)
        if not cases:
            return replace(self, cases=(), clocked=self.headline, probe=self.headline)
        if self.probe not in cases or sizes[self.probe.name] > MOST_PROBED_ELEMENTS:
            small = [c for c in cases if sizes[c.name] <= MOST_PROBED_ELEMENTS] or [*cases]
            probe = max(small, key=lambda case: sizes[case.name])
        else:
            probe = self.probe
        return replace(self, cases=cases, clocked=probe, probe=probe)

    def construct(self, case: Case) -> nn.Module:
        """The reference's model for one case, on the default device.

        Raises:
            ProblemError: the reference cannot be constructed.
        """
        try:
            model = self.model(*case.args, **case.kwargs)
        except Exception as error:
            raise ProblemError(
                f"{self.file.path}: Model cannot be constructed for case {case.name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return model.to(self.dtype).train(self.training)


def _execute(file: ProblemFile) -> ModuleType:
    module = ModuleType(f"problem_{file.name}")
    module.__file__ = str(file.path)
    try:
        exec(compile(file.source, str(file.path), "exec"), module.__dict__)
    except Exception as error:
        raise ProblemError(
            f"{file.path}: the problem file cannot be executed: {type(error).__name__}: {error}"
        ) from error
    return module


def _call(file: ProblemFile, module: ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)()
    except Exception as error:
        raise ProblemError(
            f"{file.path}: {name}() raises {type(error).__name__}: {error}"
        ) from error


def _arguments(file: ProblemFile, what: str, init: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Constructor arguments, given as a list (KernelBench) or by name."""
    if isinstance(init, dict) and all(isinstance(name, str) for name in init):
        return (), dict(init)
    if isinstance(init, list | tuple):
        return tuple(init), {}
    raise ProblemError(f"{file.path}: {what} is neither a list nor a dictionary of arguments")


def _cases(file: ProblemFile, module: ModuleType) -> tuple[Case, ...]:
    declared = getattr(module, "CASES", {})
    if not isinstance(declared, dict):
        raise ProblemError(f"{file.path}: CASES is not a dictionary of cases by name")
    cases = []
    for name, entry in declared.items():
        if not (isinstance(entry, tuple | list) and len(entry) == 2):
            raise ProblemError(
                f"{file.path}: case {name!r} is not a pair (constructor arguments, input shapes)"
            )
        if name == HEADLINE:
            raise ProblemError(f"{file.path}: CASES has a case {name!r}; that name is taken")
        args, kwargs = _arguments(file, f"the first part of case {name!r}", entry[0])
        cases.append(Case(str(name), args, kwargs, _maker(file, f"case {name!r}", entry[1])))
    return tuple(cases)


def _maker(file: ProblemFile, what: str, inputs: Any) -> Callable[[], list[Any]]:
    """Makes the forward's arguments, from shapes or by calling a function."""

    def make() -> list[Any]:
        try:
            made = inputs() if callable(inputs) else [torch.randn(shape) for shape in inputs]
            if not isinstance(made, list | tuple):
                raise TypeError(f"a {type(made).__name__} is not a list of arguments")
        except Exception as error:
            raise ProblemError(
                f"{file.path}: the inputs of {what} cannot be made: {type(error).__name__}: {error}"
            ) from error
        return list(made)

    return make


def _cpu_headline(
    file: ProblemFile, module: ModuleType, headline: Case, cases: tuple[Case, ...]
) -> Case:
    name = getattr(module, "CPU_HEADLINE", None)
    if name is None:
        return headline
    found = next((c for c in cases if c.name == name), None)
    if found is None:
        raise ProblemError(f"{file.path}: CPU_HEADLINE names {name!r}, which is not a case")
    return found


def _enum(file: ProblemFile, module: ModuleType, name: str, kind: Any, default: Any) -> Any:
    value = getattr(module, name, default)
    try:
        return kind(value)
    except ValueError as error:
        allowed = ", ".join(kind)
        raise ProblemError(f"{file.path}: {name} is {value!r}; choose {allowed}") from error


def _dtype(file: ProblemFile, module: ModuleType) -> torch.dtype | None:
    name = getattr(module, "DTYPE", None)
    if name is None:
        return None
    try:
        found = dtype_of(str(name))
    except ValueError as error:
        raise ProblemError(f"{file.path}: DTYPE: {error}") from error
    if not found.is_floating_point:
        raise ProblemError(f"{file.path}: DTYPE is {name!r}, which is not a floating dtype")
    return found


def _tolerance(file: ProblemFile, module: ModuleType) -> Tolerance:
    try:
        tolerance = Tolerance(**getattr(module, "TOLERANCE", {}))
        floor = 1.0 if tolerance.floor is None else tolerance.floor
        sane = 0 < tolerance.multiple < math.inf and 0 < floor < math.inf
    except TypeError as error:
        raise ProblemError(f"{file.path}: TOLERANCE: {error}") from error
    if not sane:
        raise ProblemError(f"{file.path}: TOLERANCE must be positive and finite")
    return tolerance
