"""Runs timed calls: a turn of several on fresh inputs, or one whose inputs a gate holds back.

The oracle lays the tensors of all calls into the arena beforehand (a *round*); a turn
goes through them without waiting for the device in between, so that what is
measured is the device. All answers are kept until the turn is over and then
written into the arena.

Does not: believe itself; what is measured here is held against the oracle's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from harness.arena import Arena
from harness.gate import MappedGate
from harness.records import Mode
from harness.wire import Message
from harness.worker.calls import Call
from harness.worker.candidate import Candidate
from harness.worker.clock import CudaClock, HostClock, Pending
from harness.worker.memory import Mapped


class Turns:
    """The timed calls of one candidate on one round."""

    def __init__(
        self,
        candidate: Candidate,
        arena: Arena,
        device: torch.device,
        layout: Message,
        gate: MappedGate,
        clock: CudaClock | HostClock,
    ) -> None:
        self._candidate = candidate
        self._arena = arena
        self._device = device
        self._layout = layout
        self._gate = gate
        self._clock = clock
        self._spotted: list[_Timed] = []

    def close(self) -> None:
        """Let go of the gate."""
        self._gate.close()

    def turn(self, mode: str, calls: int, hold_cycles: int) -> Message:
        """Clock the round's first ``calls`` calls."""
        self._spotted.clear()
        timed = [self._timed(mode, place) for place in self._layout["calls"][:calls]]
        pending: list[Pending] = []
        for one in timed:
            one.prepare()
            self._clock.flush()
            self._clock.hold(hold_cycles)
            pending.append(self._clock.queue(one.run))
        facts = [one.answer() for one in timed]
        self._synchronize()
        return {"samples": [asdict(p()) for p in pending], **facts[-1]}

    def spot(self, mode: str, at: int, number: int) -> Message:
        """Clock one of the round's calls, whose inputs are known once the gate is open."""
        place = self._layout["calls"][at]
        hidden = place["hidden_cotangents"] if mode == Mode.BACKWARD else place["hidden"]
        one = self._timed(mode, place)
        # Results are kept, so that those of the next check lie elsewhere, as in a turn: some
        # kernels take 10 % longer at some addresses, and a check must not always hit those.
        if len(self._spotted) == len(self._layout["calls"]):
            self._spotted.clear()
        self._spotted.append(one)
        one.prepare()
        self._clock.flush()
        self._synchronize()  # the oracle's clock must not see what is not timed
        self._gate.say_ready(number)
        self._gate.queue_wait(number)
        for start, end in hidden:
            self._gate.decipher(self._arena.bytes(start, end))
        pending = self._clock.queue(one.run)
        facts = one.answer()  # within the oracle's time: an output may compute when it is read
        self._gate.say_issued(number)
        self._synchronize()
        self._gate.say_done(number)
        return {"samples": [asdict(pending())], **facts}

    def _timed(self, mode: str, place: Message) -> _Timed:
        call = Call(self._candidate, Mapped(self._arena, self._device), self._device)
        return _Timed(call, mode, place, self._layout)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


class _Timed:
    """One call and its answers."""

    def __init__(self, call: Call, mode: str, place: Message, layout: Message) -> None:
        self._call = call
        self._mode = mode
        self._place = place
        self._layout = layout
        self._gradients: dict[str, Any] = {}
        wanted = layout["wanted"]
        self._args = call.inputs(
            place["inputs"],
            wanted if mode != Mode.FORWARD else [False] * len(wanted),
            delayed=False,
        )

    @property
    def run(self) -> Callable[[], None]:
        """What is timed."""
        return {
            Mode.FORWARD: self._forward,
            Mode.BACKWARD: self._backward,
            Mode.TRAINING_STEP: self._step,
        }[Mode(self._mode)]

    def prepare(self) -> None:
        """What has to be done first and is not timed."""
        if self._mode == Mode.BACKWARD:
            self._forward()

    def answer(self) -> Message:
        """Write the answers into the arena."""
        done = self._call.write_outputs(self._place["outputs"], {})
        return done | self._call.write_gradients(self._gradients, self._place["gradients"])

    def _forward(self) -> None:
        self._call.forward(self._args, gradients=self._mode != Mode.FORWARD)

    def _backward(self) -> None:
        found = self._call.backward(self._place["cotangents"], self._layout["parameters"])
        self._gradients.update(found)

    def _step(self) -> None:
        self._forward()
        self._backward()
