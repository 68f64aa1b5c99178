"""The oracle's side of one worker: a process, an arena of the oracle's memory, and the messages.

Serves the oracle twice: it holds the candidate, and, for the clock, the reference
(the same program with the problem's source; only the candidate is distrusted).

Does not: compare values, or decide what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from harness.arena import CudaArena, HostArena, Plan, Slot, allocate, name_of
from harness.emulation.device import Order
from harness.errors import OracleFault, ProblemError
from harness.launches import Wish
from harness.oracle import audit, draws, emulated
from harness.oracle.draws import Layout
from harness.oracle.nursery import Worker
from harness.oracle.problem import Case, Problem
from harness.oracle.reference import Question
from harness.oracle.stop import Stop, ended, failed, malformed
from harness.records import Stage, Verdict
from harness.settings import Settings
from harness.supervisor import ChildEnded, Extension
from harness.wire import Message
from harness.worker import trees

_CALLS = ("forward", "interleave", "backward")
"""Requests that run the candidate's model."""


class Session:
    """One worker with one module loaded.

    A ``trusted`` session holds the reference: whatever goes wrong there is a fault of
    ours, and must not become a candidate's verdict.
    """

    def __init__(
        self,
        worker: Worker,
        device: torch.device,
        settings: Settings,
        extension: Extension,
        *,
        trusted: bool = False,
        reports: emulated.Reports | None = None,
    ) -> None:
        """With a worker that has its device.

        With ``reports``, it has the emulated device, and what it sees goes there.
        """
        self.child = worker.child
        self.launches = worker.launches
        """Where what it launches is noted (GPU only)."""
        self._worker = worker
        self.reports = reports
        self.trusted = trusted
        self._device = device
        self._settings = settings
        self._extension = extension
        self._arena: HostArena | CudaArena | None = None
        self.allocations = 0
        """Blocks of ``cudaMalloc`` that the candidate holds (emulated device only)."""
        self.launched = 0
        """Kernels that its forwards have launched so far (emulated device only)."""
        self.operators: set[str] = set()
        """PyTorch's, of all its forwards and backwards so far (emulated device only)."""
        self._schedule = emulated.SCHEDULES[0]
        self.without_own = ""
        """``forward`` or ``backward``, while the candidate's own kernels are left out of that."""

    @property
    def candidate_device(self) -> str:
        """The type of device that the candidate's tensors lie on."""
        return "cuda" if self.reports is not None else self._device.type

    def schedule(self, orders: tuple[Order, Order]) -> None:
        """Fix the orders of threads and blocks (emulated device only)."""
        self._schedule = orders

    def load(self, source: str, entry: str, *, tf32: bool) -> None:
        """Import the module.

        Raises:
            Stop: it cannot be imported, or has no such entry.
        """
        self._ask(
            {"op": "load", "source": source, "entry": entry, "tf32": tf32},
            Stage.LOAD,
            "importing the candidate",
            Verdict.LOAD_FAILED,
            seconds=self._settings.load_seconds,
        )
        self.wish(Wish.COUNTED)

    def construct(self, case: Case, problem: Problem) -> list[Message]:
        """Make the module for one case; the state that it reports.

        Raises:
            ProblemError: the case's arguments cannot be handed to another process.
            Stop: the constructor raised.
        """
        try:
            args, kwargs = trees.encode(case.args, _literal), trees.encode(case.kwargs, _literal)
        except TypeError as error:
            raise ProblemError(
                f"{problem.file.path}: the constructor arguments of case {case.name!r}: {error}"
            ) from error
        self.wish(Wish.NOTHING)  # initial weights may be made in any way
        reply = self._ask(
            {
                "op": "construct",
                "args": args,
                "kwargs": kwargs,
                "training": problem.training,
                "dtype": None if problem.dtype is None else name_of(problem.dtype),
            },
            Stage.INTERFACE,
            f"constructing ModelNew for case {case.name!r}",
            Verdict.WRONG_INTERFACE,
            constructing=True,
        )
        self.wish(Wish.COUNTED)
        return _facts(reply.get("state"), Stage.INTERFACE)

    def wish(self, wish: Wish) -> None:
        """Say what is to be noted of the worker's launches from now on (GPU only)."""
        if self.launches is not None:
            self.launches.wish(wish)

    def compile(self) -> None:
        """Wrap the module in ``torch.compile`` (the reference's session only)."""
        self._ask({"op": "compile"}, Stage.TIME, "compiling", Verdict.RUNTIME_ERROR)

    def lay(self, question: Question) -> Laid:
        """Lay a question's tensors into the arena, poison around them, and fill in the inputs."""
        laid = Laid(question)
        self.need(laid.plan.size)
        self.arena.poison_all(laid.plan.size)
        for slot, tensor in zip(laid.inputs, laid.input_tensors, strict=True):
            self.arena.view(slot).copy_(tensor)
        for slot, tensor in laid.other_inputs:
            self.arena.view(slot).copy_(tensor)
        for name, slot in laid.weights.items():
            self.arena.view(slot).copy_(question.weights[name])
        self.synchronize()
        return laid

    def write_weights(self, weights: Mapping[str, Slot]) -> None:
        """Have the worker copy the weights that lie in these slots into its module.

        Raises:
            Stop: the module does not take them.
        """
        slots = {name: slot.to_wire() for name, slot in weights.items()}
        self._ask(
            {"op": "weights", "slots": slots},
            Stage.INTERFACE,
            "copying the reference's weights into the candidate",
            Verdict.WRONG_INTERFACE,
        )

    def forward(self, laid: Laid, *, gradients: bool) -> list[Message]:
        """Run the forward; what it says of its outputs.

        Raises:
            Stop: it raised, died or hung.
        """
        question = laid.question
        targets = [*question.outputs, *question.gradients.values()]
        reply = self._ask(
            {
                "op": "forward",
                **self._terms("forward", question),
                "inputs": laid.encoded_args,
                "wanted": question.wanted,
                "gradients": gradients,
                "outputs": [s.to_wire() for s in laid.outputs],
                "buffers": {n: s.to_wire() for n, s in laid.buffers.items()},
                "scrub": [t.like.numel() * t.like.element_size() for t in targets for _ in (0, 1)],
                "delayed": question.draw.late,
            },
            Stage.VALUES,
            f"running forward on case {question.case.name!r} ({question.draw.name} inputs)",
            Verdict.RUNTIME_ERROR,
        )
        self.allocations = emulated.number(reply.get("allocations"))
        self.launched += emulated.number(reply.get("launched"))
        return _facts(reply.get("outputs"), Stage.VALUES)

    def interleave(self, laid: Laid) -> None:
        """Run another forward, whose outputs nobody asks for; those of the first come again.

        Raises:
            Stop: it raised, died or hung.
        """
        question = laid.question
        self._ask(
            {
                "op": "interleave",
                **self._terms("", question),
                "inputs": laid.other_args,
                "wanted": question.wanted,
                "outputs": [s.to_wire() for s in laid.outputs],
            },
            Stage.GRADIENTS,
            f"running a second forward before the backward on case {question.case.name!r}",
            Verdict.RUNTIME_ERROR,
        )

    def _terms(self, part: str, question: Question) -> Message:
        """How kernels are to run, if at all; on the emulated device also in which order."""
        left_out = bool(part) and part == self.without_own
        self.wish(Wish.COUNTED | (Wish.WITHOUT_OWN if left_out else Wish.NOTHING))
        if self.reports is None:
            return {}
        patience = emulated.KERNEL_SHARE * self._settings.call_seconds
        return {"schedule": [*self._schedule, question.seed, patience, left_out]}

    def reveal_cotangents(self, laid: Laid) -> None:
        """Write the cotangents; not before the forward's outputs are in the oracle's hands."""
        for slot, tensor in zip(laid.cotangents, laid.question.cotangents, strict=True):
            view = self.arena.view(slot)
            if laid.question.draw.cotangents is Layout.EXPANDED and tensor.numel():
                view.as_strided((), ()).copy_(tensor.as_strided((), ()))
            else:
                view.copy_(tensor)
        self.synchronize()

    def backward(self, laid: Laid) -> dict[str, Any]:
        """Run the backward; which gradients it says there are. The outputs come again.

        Raises:
            Stop: it raised, died or hung.
        """
        question = laid.question
        reply = self._ask(
            {
                "op": "backward",
                **self._terms("backward", question),
                "cotangents": [s.to_wire() for s in laid.cotangents],
                "parameters": question.wanted_parameters,
                "gradients": {n: s.to_wire() for n, s in laid.gradients.items()},
                "outputs": [s.to_wire() for s in laid.outputs],
                "delayed": question.draw.late,
            },
            Stage.GRADIENTS,
            f"running backward on case {question.case.name!r} ({question.draw.name} inputs)",
            Verdict.RUNTIME_ERROR,
        )
        gradients = reply.get("gradients")
        if not isinstance(gradients, dict):
            raise malformed(Stage.GRADIENTS)
        return gradients

    def audit(self, laid: Laid, *, gradients: bool) -> tuple[audit.Operators, dict[str, int]]:
        """Run twice more and list PyTorch's operators on the way, forward and backward.

        The second part is how often each kernel was launched (emulated device only).

        Raises:
            Stop: it raised, died or hung.
        """
        reply = self._ask(
            {
                "op": "audit",
                "inputs": laid.encoded_args,
                "wanted": laid.question.wanted,
                "gradients": gradients,
                "cotangents": [s.to_wire() for s in laid.cotangents],
                "parameters": laid.question.wanted_parameters,
            },
            Stage.AUDIT,
            "listing the operators that it calls",
            Verdict.RUNTIME_ERROR,
        )
        found = {}
        for part in ("forward", "backward"):
            sizes = reply.get(part)
            if not isinstance(sizes, dict) or not all(isinstance(n, int) for n in sizes.values()):
                raise malformed(Stage.AUDIT)
            found[part] = {name[:100]: sizes[name] for name in list(sizes)[:1000]}
        return found, emulated.launches(reply.get("launches"))

    def time(
        self,
        message: Message,
        doing: str,
        *,
        fds: Sequence[int] = (),
        once_sent: Callable[[], None] | None = None,
    ) -> Message:
        """One request of the clock (see ``rounds``); what the worker claims.

        Raises:
            Stop: it raised, died or hung.
        """
        verdict = Verdict.RUNTIME_ERROR
        return self._ask(message, Stage.TIME, doing, verdict, fds=fds, once_sent=once_sent)

    @property
    def on_gpu(self) -> bool:
        """Whether it works on a GPU."""
        return self._device.type == "cuda"

    @property
    def arena(self) -> HostArena | CudaArena:
        """The memory that this worker has mapped."""
        if self._arena is None:
            raise RuntimeError("nothing has been laid out")
        return self._arena

    def synchronize(self) -> None:
        """Wait until the oracle's own writes are in place."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def close(self) -> None:
        """Kill the worker and free its arena."""
        self._worker.end()
        if self._arena is not None:
            self._arena.close()
            self._arena = None

    @property
    def launches_so_far(self) -> int:
        """Launches of all kernels that were counted (0 but on a GPU)."""
        return self.launches.launched if self.launches is not None else 0

    def rest(self) -> None:
        """Give the arena's memory back, and have the worker give back what it keeps for later."""
        if self._arena is not None:
            self._ask({"op": "detach"}, Stage.LOAD, "unmapping memory", Verdict.RUNTIME_ERROR)
            self._arena.close()
            self._arena = None

    def need(self, size: int) -> None:
        """Have an arena of at least ``size`` bytes, mapped by the worker."""
        if self._arena is not None and self._arena.size >= size:
            return
        self.rest()
        self._arena = allocate(max(size, 1 << 20), cuda=self._device.type == "cuda")
        self._ask(
            {"op": "attach", "arena": self._arena.handle()},
            Stage.LOAD,
            "mapping memory",
            Verdict.RUNTIME_ERROR,
            fds=self._arena.descriptors(),
        )

    def _ask(
        self,
        message: Message,
        stage: Stage,
        doing: str,
        verdict: Verdict,
        *,
        seconds: float | None = None,
        fds: Sequence[int] = (),
        constructing: bool = False,
        once_sent: Callable[[], None] | None = None,
    ) -> Message:
        limit = self._settings.call_seconds if seconds is None else seconds
        if self.reports is not None:  # the device itself counts the time that kernels take
            limit *= emulated.HOST_PATIENCE
        try:
            reply = self.child.request(
                message,
                limit,
                fds=fds,
                extension=self._extension,
                once_sent=once_sent,
            )
        except ChildEnded as error:
            raise self._failed(ended(error, stage, doing)) from error
        failure = reply.get("failure")
        if self.reports is not None:
            told = self.reports.read(
                reply.get("reports"), stage, doing, failed=isinstance(failure, dict)
            )
            if told is not None:
                raise told
        if isinstance(failure, dict):
            if constructing and failure.get("type") != "TypeError":
                verdict = Verdict.RUNTIME_ERROR
            emulation = self.reports is not None
            raise self._failed(failed(failure, stage, doing, verdict, emulation=emulation))
        if self.reports is not None and message["op"] in _CALLS:
            self.operators |= emulated.names(reply.get("operators"))
        return reply

    def _failed(self, stop: Stop) -> Stop | OracleFault:
        if self.trusted:
            return OracleFault(f"the reference's own process: {stop.findings[0].message}")
        return stop


class Laid:
    """A question laid out: which tensor lies where in the arena."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.plan = Plan()
        self.inputs: list[Slot] = []
        self.input_tensors: list[torch.Tensor] = []
        self.other_inputs: list[tuple[Slot, torch.Tensor]] = []
        """Of the forward that comes between (interleaved draw only)."""
        draw = question.draw

        def room(tensor: torch.Tensor) -> Slot:
            floating = tensor.is_floating_point()
            return self._add(tensor, draw.inputs if floating else Layout.CONTIGUOUS)

        def place(tensor: torch.Tensor) -> Message:
            self.inputs.append(room(tensor))
            self.input_tensors.append(tensor)
            return self.inputs[-1].to_wire()

        def place_other(tensor: torch.Tensor) -> Message:
            self.other_inputs.append((room(tensor), tensor))
            return self.other_inputs[-1][0].to_wire()

        self.encoded_args = [trees.encode(a, place) for a in question.args]
        self.other_args = [trees.encode(a, place_other) for a in question.other_args]
        self.weights = {n: self._add(t, Layout.CONTIGUOUS) for n, t in question.weights.items()}
        self.outputs = [self._add(t.like, Layout.CONTIGUOUS) for t in question.outputs]
        self.buffers = {t.name: self._add(t.like, Layout.CONTIGUOUS) for t in question.buffers}
        self.cotangents = [self._add(c, draw.cotangents) for c in question.cotangents]
        self.gradients = {
            n: self._add(t.like, Layout.CONTIGUOUS) for n, t in question.gradients.items()
        }

    def _add(self, tensor: torch.Tensor, layout: Layout) -> Slot:
        shape = tuple(tensor.shape)
        stride, shift = draws.stride_of(layout, shape)
        return self.plan.add(tensor.dtype, shape, stride, shift=shift)

    def damaged(self, arena: HostArena | CudaArena) -> bool:
        """Whether a guard band around the tensors was written to."""
        return not all(arena.is_poison(start, end) for start, end in self.plan.guards())

    def changed_inputs(self, arena: HostArena | CudaArena) -> list[int]:
        """Which inputs no longer hold what the oracle wrote."""
        return [
            i
            for i, (slot, tensor) in enumerate(zip(self.inputs, self.input_tensors, strict=True))
            if not _same_bits(arena.view(slot), tensor)
        ]

    def changed_outputs(
        self, arena: HostArena | CudaArena, outputs: Sequence[torch.Tensor]
    ) -> list[int]:
        """Which outputs no longer hold what they held before."""
        slots = enumerate(zip(self.outputs, outputs, strict=True))
        return [i for i, (slot, before) in slots if not _same_bits(arena.view(slot), before)]


def _facts(value: object, stage: Stage) -> list[Message]:
    """A worker's list of facts, if it has the form of one.

    Raises:
        Stop: it has not.
    """
    if not isinstance(value, list) or not all(isinstance(fact, dict) for fact in value):
        raise malformed(stage)
    return value


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    kind = kinds.get(a.element_size())
    if kind is None:
        return bool(torch.equal(a, b))
    return bool(torch.equal(a.contiguous().view(kind), b.contiguous().view(kind)))


def _literal(tensor: torch.Tensor) -> Message:
    """A small tensor among constructor arguments, written out."""
    return {
        "values": tensor.flatten().tolist(),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
    }
