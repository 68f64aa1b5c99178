"""Timed calls as the oracle sees them: tensors for a whole turn laid out, revealed, and read back.

A *round* is room in a worker's arena for the tensors of several calls. For a *turn*, all inputs
are fresh and lie there in the clear. For a *spot check*, the inputs of one call lie there as
ciphers, and the gate opens when the oracle's own clock starts: nothing can be computed beforehand,
and the answer is taken at once.

Does not: decide how many calls there are, or what their times mean (see ``clock``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from harness import gate
from harness.arena import Plan, Slot
from harness.oracle import draws
from harness.oracle.reference import Question
from harness.oracle.session import Session
from harness.records import Mode
from harness.wire import Message
from harness.worker import trees
from harness.worker.clock import Sample

_LONGEST_MS = 1e7
_READY_SECONDS = 10.0
"""How long what precedes a timed call may take before the gate opens all the same."""
_AT_WORK = (
    "The candidate's process launched kernels between its timed calls, while others were clocked."
)
_SPOT_SECONDS = 2.0
"""How long the gate is watched for the end of a call; a longer one is timed by its answer."""


Answers = tuple[list[torch.Tensor], dict[str, torch.Tensor], float]
"""Outputs, gradients, and when the oracle held them (``time.perf_counter``)."""


class BadSample(Exception):
    """What a worker sent is no sample, or not to be believed."""

    def __init__(self, text: str, rule: str = "time.no_sample") -> None:
        super().__init__(text)
        self.rule = rule


@dataclass
class Place:
    """Where the tensors of one call lie."""

    inputs: list[Slot]
    cotangents: list[Slot]
    outputs: list[Slot]
    gradients: dict[str, Slot]
    encoded: list[object]
    """The forward's arguments on the wire."""

    def to_wire(self) -> Message:
        """As the worker needs it."""
        return {
            "inputs": self.encoded,
            "cotangents": [s.to_wire() for s in self.cotangents],
            "outputs": [s.to_wire() for s in self.outputs],
            "gradients": {n: s.to_wire() for n, s in self.gradients.items()},
            "hidden": _ranges([*self.inputs, *self.cotangents]),
            "hidden_cotangents": _ranges(self.cotangents),
        }


@dataclass(frozen=True)
class Pace:
    """How the calls of a turn follow each other."""

    calls: int
    """How many there are that count."""
    ahead: int
    """Calls before those, which pay for the hand-over of the device."""
    hold_cycles: int
    """How long the device is held back before each, in cycles of its clock."""


@dataclass
class Spot:
    """One call whose inputs nobody could know before the oracle's clock started."""

    question: Question | None
    """What was asked, until it is forgotten."""
    sample: Sample
    done_ms: float
    """Until the device was done and the answers lay in the arena, by the worker's word."""
    held_ms: float
    """Until the oracle held the answers."""
    outputs: list[torch.Tensor]
    gradients: dict[str, torch.Tensor]

    @property
    def answer_bytes(self) -> int:
        """Memory of the answers."""
        return sum(t.nbytes for t in (*self.outputs, *self.gradients.values()))

    def forget(self) -> None:
        """Let go of all tensors, and keep the times."""
        self.question, self.outputs, self.gradients = None, [], {}


@dataclass
class _Layout:
    plan: Plan = field(default_factory=Plan)
    weights: dict[str, Slot] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    answers_from: int = 0


class Round:
    """A session with room for the tensors of ``calls`` calls of one question."""

    def __init__(self, session: Session, question: Question, calls: int) -> None:
        """Lays everything out and writes the weights.

        Where the device's streams cannot wait, spot checks hide nothing (``hides``).

        Raises:
            Stop: the worker failed.
        """
        self._session = session
        self._layout = _lay(question, calls)
        self._gate = gate.Gate()
        self._waits = session.on_gpu and gate.streams_can_wait()
        self._launches: int | None = None  # of a candidate's, when its latest turn ended
        session.need(self._layout.plan.size)
        for name, slot in self._layout.weights.items():
            session.arena.view(slot).copy_(question.weights[name])
        session.synchronize()
        session.write_weights(self._layout.weights)
        message = {
            "op": "round",
            "calls": [place.to_wire() for place in self._layout.places],
            "wanted": question.wanted,
            "parameters": question.wanted_parameters,
            "waits": self._waits,
        }
        session.time(message, "preparing timed calls", fds=(self._gate.fd,))

    @property
    def hides(self) -> bool:
        """Whether a spot check's inputs are unknown until all its work is queued."""
        return self._waits or not self._session.on_gpu

    @property
    def calls(self) -> int:
        """How many calls there is room for."""
        return len(self._layout.places)

    def close(self) -> None:
        """Give the gate's memory back."""
        self._gate.close()

    def turn(self, mode: Mode, fresh: Sequence[Question], pace: Pace) -> list[Sample]:
        """Clock one call for each question.

        Raises:
            BadSample: the worker claims something that is no time, or launched kernels since its
                last turn.
            Stop: it raised, died or hung.
        """
        for question, place in zip(fresh, self._layout.places, strict=False):
            self._reveal(question, place)
        self._poison()
        message = {
            "op": "turn",
            "mode": mode,
            "calls": len(fresh),
            "hold_cycles": pace.hold_cycles,
        }
        if self._launches is not None and self._session.launches_so_far != self._launches:
            raise BadSample(_AT_WORK, "time.between_turns")
        reply = self._session.time(message, f"clocking the {mode}")
        if not self._session.trusted:
            self._launches = self._session.launches_so_far
        return _samples(reply, len(fresh))

    def answers(self, index: int) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        """Copies of the answers to one call of the last turn."""
        place, arena = self._layout.places[index], self._session.arena
        outputs = [arena.view(slot).clone() for slot in place.outputs]
        return outputs, {name: arena.view(s).clone() for name, s in place.gradients.items()}

    def spot(self, mode: Mode, fresh: Question, patience: float) -> Spot:
        """Clock one call whose inputs stay hidden until all its work is queued.

        Args:
            mode: What is clocked; of the backward only the cotangents are hidden.
            fresh: New inputs and cotangents.
            patience: Seconds that the worker may take to queue everything; then the gate
                opens all the same, for a call that waits for the device.

        Raises:
            BadSample, Stop: as for ``turn``.
        """
        at = secrets.randbelow(self.calls)  # a turn's calls lie at different addresses too
        place, arena = self._layout.places[at], self._session.arena
        number, key = self._gate.shut()
        words = gate.tensor_of(key, arena.bytes(0, 0).device)
        self._reveal(fresh, place, words, hide_inputs=mode is not Mode.BACKWARD)
        self._poison()
        begun = done = 0.0
        taken: Answers | None = None
        self._launches = None  # a check launches too, and so may what comes before a next round

        def release() -> None:
            nonlocal begun, done, taken
            if self._waits:
                self._gate.wait_until_ready(_READY_SECONDS, self._session.child.has_spoken)
                self._gate.wait_until_issued(patience)
                begun = time.perf_counter()
                self._gate.open(key)
            if self._gate.wait_until_done(_SPOT_SECONDS):
                done = time.perf_counter()
                taken = self._take(at)  # what comes after its word must not count

        if not self._waits:  # nothing can be queued: a call begins when it is asked for
            begun = time.perf_counter()
            self._gate.open(key)
        message = {"op": "spot", "mode": mode, "at": at, "number": number}
        reply = self._session.time(message, f"clocking the {mode}", once_sent=release)
        done = done or time.perf_counter()
        outputs, gradients, held = taken or self._take(at)
        sample = _samples(reply, 1)[0]
        times = (done - begun) * 1e3, (held - begun) * 1e3
        return Spot(fresh, sample, *times, outputs, gradients)

    def _take(self, index: int) -> Answers:
        """The answers to one call, and when the oracle held them."""
        outputs, gradients = self.answers(index)
        self._session.synchronize()
        return outputs, gradients, time.perf_counter()

    def _reveal(
        self,
        question: Question,
        place: Place,
        words: torch.Tensor | None = None,
        *,
        hide_inputs: bool = False,
    ) -> None:
        """Lay a call's tensors; with ``words`` of a key the cotangents as ciphers, or all."""
        tensors = [tensor for _, tensor in trees.flatten(question.args, "input")]
        for slot, tensor in zip(place.inputs, tensors, strict=True):
            self._lay(slot, tensor, words if hide_inputs else None)
        for slot, tensor in zip(place.cotangents, question.cotangents, strict=True):
            self._lay(slot, tensor, words)

    def _lay(self, slot: Slot, tensor: torch.Tensor, words: torch.Tensor | None) -> None:
        """One tensor; what is to be hidden is never in the clear where the worker can read."""
        arena = self._session.arena
        if words is None:
            arena.view(slot).copy_(tensor)
            return
        for start, end in _ranges([slot]):
            private = arena.bytes(start, end).clone()
            private[: slot.extent].view(tensor.dtype).view(tensor.shape).copy_(tensor)
            gate.combine(private, words)
            arena.bytes(start, end).copy_(private)

    def _poison(self) -> None:
        """Make every answer of the round wrong, and wait until all is written."""
        self._session.arena.poison_all(self._layout.plan.size, self._layout.answers_from)
        self._session.synchronize()


def bytes_per_call(question: Question) -> int:
    """Room that one call takes in a round."""
    one, two = _lay(question, 1).plan.size, _lay(question, 2).plan.size
    return two - one


def _lay(question: Question, calls: int) -> _Layout:
    """Weights first, then the inputs of every call, then room for all answers."""
    made = _Layout()
    plan = made.plan

    def add(tensor: torch.Tensor) -> Slot:
        shape = tuple(tensor.shape)
        stride, _ = draws.stride_of(draws.Layout.CONTIGUOUS, shape)
        return plan.add(tensor.dtype, shape, stride)

    made.weights = {name: add(tensor) for name, tensor in question.weights.items()}
    for _ in range(calls):
        inputs: list[Slot] = []

        def place(tensor: torch.Tensor, inputs: list[Slot] = inputs) -> Message:
            inputs.append(add(tensor))
            return inputs[-1].to_wire()

        encoded = [trees.encode(a, place) for a in question.args]
        cotangents = [add(c) for c in question.cotangents]
        made.places.append(Place(inputs, cotangents, [], {}, encoded))
    made.answers_from = plan.size
    for one in made.places:
        one.outputs = [add(t.like) for t in question.outputs]
        one.gradients = {n: add(t.like) for n, t in question.gradients.items()}
    return made


def _ranges(slots: Sequence[Slot]) -> list[tuple[int, int]]:
    """The bytes of slots, made up to whole blocks of a key; the guard band behind has the room."""
    block = gate.KEY_BYTES
    return [(s.offset, s.offset + -(-s.extent // block) * block) for s in slots if s.extent]


def _samples(reply: Message, wanted: int) -> list[Sample]:
    """The samples that a worker sent, if that is what they are.

    Raises:
        BadSample: they are not.
    """
    found = reply.get("samples")
    if not isinstance(found, list) or len(found) != wanted:
        raise BadSample("The candidate's process sent no samples.")
    return [_sample(one) for one in found]


def _sample(value: object) -> Sample:
    if not isinstance(value, dict):
        raise BadSample("The candidate's process sent no sample.")
    times = value.get("milliseconds"), value.get("host_milliseconds")
    for claimed in times:
        if not isinstance(claimed, float | int) or not 0 < claimed < _LONGEST_MS:
            raise BadSample(f"The candidate's process claims a time of {str(claimed)[:40]}.")
    return Sample(float(times[0]), float(times[1]), value.get("gated") is True)  # type: ignore[arg-type]
