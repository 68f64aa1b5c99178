"""The worker's loop: take a message, do it, answer.

Messages from the oracle (``op``):
    start      this process's device, before anything touches one
    collect    import the candidate to learn what it builds; nothing is built or run
    load       set the precision flags and import the candidate
    construct  make its model
    detach     unmap the arena, which is about to be freed
    attach     map the arena (descriptors come along)
    weights    copy weights from the arena into the model
    forward    run it and write the outputs into the arena
    interleave run it on other inputs, between ``forward`` and ``backward``
    backward   differentiate what ``forward`` made, write the gradients into the arena (after both,
               the outputs are written again: they must be what they were)
    round      map the gate, and take note of where the tensors of timed calls lie
    turn       clock a number of calls and write their answers into the arena
    spot       clock one call whose inputs are ciphers until the gate opens
    audit      run forward and backward once more, listing PyTorch's operators on the way
    compile    wrap the model in torch.compile (compiled baseline)

Each is answered by one message; a ``failure`` says what the candidate raised.

Does not: survive its candidate. Nothing here is believed (see ``harness.oracle``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness import launches
from harness.arena import Arena, attach
from harness.emulation import device as emulated
from harness.gate import MappedGate
from harness.wire import Channel, Message, WireClosed
from harness.worker import extension, failures, trees
from harness.worker.calls import Call, raise_launch_error, scrub
from harness.worker.candidate import Candidate
from harness.worker.census import Census, witnessed
from harness.worker.clock import CudaClock, HostClock
from harness.worker.memory import Copied, Mapped
from harness.worker.tf32 import allow_tf32
from harness.worker.turns import Turns


def serve(channel: Channel) -> None:
    """Answer messages until the oracle closes the channel."""
    worker = Worker(channel, Path.cwd())
    while True:
        try:
            message, fds = channel.receive()
        except WireClosed:
            return
        token = message.pop("token", None)
        channel.send(worker.answer(message, fds) | {"token": token})


class Worker:
    """State of the process between messages."""

    def __init__(self, channel: Channel, directory: Path) -> None:
        self._channel = channel
        self._directory = directory
        self._device = torch.device("cpu")
        self._candidate: Candidate | None = None
        self._arena: Arena | None = None
        self._call: Call | None = None
        self._clock: CudaClock | HostClock | None = None
        self._turns: Turns | None = None

    def answer(self, message: Message, fds: list[int]) -> Message:
        """Carry out one message; whatever the candidate raises becomes the answer."""
        path = self._candidate.path if self._candidate else str(self._directory / "candidate.py")
        try:
            operation = getattr(self, f"do_{message['op']}")
            if "schedule" in message:  # of a call on the emulated device
                emulated.schedule(*message["schedule"])
            done: Message = operation(message, fds)
        except WireClosed:
            raise
        except BaseException as error:  # the candidate may raise anything, SystemExit too
            done = failures.describe(error, path)
        if emulated.is_loaded():
            if message["op"] != "audit":  # which tells forward from backward
                done["operators"] = list(emulated.take_operators())
            done["reports"] = [report.to_wire() for report in emulated.take_reports()]
        return done

    def do_start(self, message: Message, fds: list[int]) -> Message:
        if fds:
            launches.note(fds[0])
        if message["cuda"] is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = message["cuda"]
            self._device = torch.device("cuda:0")
            torch.cuda.set_device(self._device)
            torch.empty(1, device=self._device)
        if emulated.is_loaded():
            self._device = torch.device("cuda:0")
        torch.set_num_threads(int(message["threads"]))
        return {"pid": os.getpid()}

    def do_collect(self, message: Message, _: list[int]) -> Message:
        extension.intercept(extension.collecting(self._channel))
        candidate = Candidate(message["source"], message["entry"], self._directory, self._device)
        candidate.load()
        problem: dict[str, Any] = {}  # some candidates build in their constructor
        exec(message["problem"], problem)
        init = problem["get_init_inputs"]()
        args, kwargs = ([], init) if isinstance(init, dict) else (init, {})
        candidate.construct(
            trees.encode(list(args), str), trees.encode(dict(kwargs), str), training=True
        )
        return {}

    def do_load(self, message: Message, _: list[int]) -> Message:
        allow_tf32(bool(message["tf32"]))
        extension.intercept(extension.from_oracle(self._channel))
        self._candidate = Candidate(
            message["source"], message["entry"], self._directory, self._device
        )
        return self._candidate.load()

    def do_construct(self, message: Message, _: list[int]) -> Message:
        self._call = None
        return self._loaded.construct(
            message["args"],
            message["kwargs"],
            training=message["training"],
            dtype=message["dtype"],
        )

    def do_compile(self, _: Message, __: list[int]) -> Message:
        return self._loaded.compile()

    def do_detach(self, _: Message, __: list[int]) -> Message:
        self._call = None
        if self._turns is not None:
            self._turns.close()
            self._turns = None
        if self._arena is not None:
            self._synchronize()
            self._arena.unmap()
            self._arena = None
        if self._device.type == "cuda" and not emulated.is_loaded():
            torch.cuda.empty_cache()
        return {}

    def do_attach(self, message: Message, fds: list[int]) -> Message:
        self._arena = attach(message["arena"], fds)
        return {}

    def do_weights(self, message: Message, _: list[int]) -> Message:
        done = self._loaded.write_weights(self._mapped, message["slots"])
        self._synchronize()
        return done

    def do_forward(self, message: Message, _: list[int]) -> Message:
        self._call = call = Call(self._loaded, self._memory, self._device)
        scrub(message["scrub"], self._device)
        delayed = message["delayed"] and self._device.type == "cuda"
        with call.stream(side=delayed):
            args = call.inputs(message["inputs"], message["wanted"], delayed=delayed)
            call.forward(args, gradients=message["gradients"])
            raise_launch_error(self._device)
            done = call.write_outputs(message["outputs"], message["buffers"])
        self._synchronize()
        if emulated.is_loaded():
            done["allocations"] = emulated.candidate_allocations()
            done["launched"] = sum(emulated.take_launches().values())
        return done

    def do_interleave(self, message: Message, _: list[int]) -> Message:
        between = Call(self._loaded, self._memory, self._device)
        args = between.inputs(message["inputs"], message["wanted"], delayed=False)
        between.forward(args, gradients=True)
        raise_launch_error(self._device)
        self._synchronize()
        del args, between  # no more memory is needed than by a backward
        if self._call is not None:
            self._call.write_outputs(message["outputs"], {})
            self._synchronize()
        return {}

    def do_backward(self, message: Message, _: list[int]) -> Message:
        if self._call is None:
            raise RuntimeError("there was no forward")
        delayed = message["delayed"] and self._device.type == "cuda"
        with self._call.stream(side=delayed):
            given = message["cotangents"], message["parameters"]
            gradients = self._call.backward(*given, delayed=delayed)
            raise_launch_error(self._device)
            done = self._call.write_gradients(gradients, message["gradients"])
            self._call.write_outputs(message["outputs"], {})
        self._synchronize()
        self._call.forget()
        self._call = None
        return done

    def do_audit(self, message: Message, _: list[int]) -> Message:
        gradients, parameters = message["gradients"], message["parameters"]

        def call() -> tuple[Callable[[], object], Callable[[], object]]:
            made = Call(self._loaded, self._memory, self._device)
            args = made.inputs(message["inputs"], message["wanted"], delayed=False)
            return (
                lambda: made.forward(args, gradients=gradients),
                lambda: made.backward(message["cotangents"], parameters) if gradients else None,
            )

        done: Message = {}
        if emulated.is_loaded():
            emulated.take_launches()
            emulated.take_operators()
        for part, run in zip(("forward", "backward"), call(), strict=True):
            with Census() as census:
                run()
            done[part] = census.sizes
            if emulated.is_loaded():  # it knows what other threads ask of it
                done[part] = dict.fromkeys(emulated.take_operators(), 0) | done[part]
        self._synchronize()
        if emulated.is_loaded():
            done["launches"] = emulated.take_launches()
        for part, run in zip(("forward", "backward"), call(), strict=True):
            done[part] = dict.fromkeys(witnessed(run), 0) | done[part]
        self._synchronize()
        if launches.is_loaded():
            launches.settle()
        return done

    def do_round(self, message: Message, fds: list[int]) -> Message:
        if self._turns is not None:
            self._turns.close()
        gate = MappedGate(fds[0], self._device, waits=message["waits"])
        if self._clock is None:
            self._clock = CudaClock() if self._device.type == "cuda" else HostClock()
        self._turns = Turns(self._loaded, self._mapped, self._device, message, gate, self._clock)
        return {}

    def do_turn(self, message: Message, _: list[int]) -> Message:
        return self._clocked.turn(message["mode"], message["calls"], message["hold_cycles"])

    def do_spot(self, message: Message, _: list[int]) -> Message:
        return self._clocked.spot(message["mode"], message["at"], message["number"])

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    @property
    def _loaded(self) -> Candidate:
        if self._candidate is None:
            raise RuntimeError("no candidate has been loaded")
        return self._candidate

    @property
    def _clocked(self) -> Turns:
        if self._turns is None:
            raise RuntimeError("no round has been laid out")
        return self._turns

    @property
    def _memory(self) -> Mapped:
        kind = Copied if emulated.is_loaded() else Mapped
        return kind(self._mapped, self._device)

    @property
    def _mapped(self) -> Arena:
        if self._arena is None:
            raise RuntimeError("no arena has been attached")
        return self._arena
