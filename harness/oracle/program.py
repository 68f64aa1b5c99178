"""The oracle's loop: judge, or clock a baseline, as the grader asks.

Messages from the grader (``op``):
    open       device, settings, and what workers must not see
    health     a small computation with a known result, before anything else in a fresh oracle
    expect     a problem that a candidate is going to be judged on
    judge      one candidate on one problem; answered by ``done`` with an outcome
    baseline   the reference against itself compiled, and against a solution
    admit      what a problem makes of dummies
Messages to the grader on the way:
    stage      a stage has begun
    build      a spec that a worker asked for; answered with an artifact's descriptor
    fault      a failure of ours; ``problem`` in place of it where the problem file is at fault

Does not: outlive its grader.
"""

from __future__ import annotations

import gc
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.calibration import Allowances
from harness.errors import ProblemError
from harness.oracle import admission, health
from harness.oracle.judge import Judge, Outcome, Request
from harness.oracle.nursery import Nursery, maker
from harness.oracle.problem import Problem
from harness.oracle.stop import Stop
from harness.problems import ProblemFile
from harness.records import GradientPolicy, Speedup, Stage, WorkPolicy
from harness.settings import Settings
from harness.supervisor import ForkServer
from harness.wire import Channel, Message, WireClosed


def serve(channel: Channel, control: Channel) -> None:
    """Answer the grader until it closes the channel."""
    oracle = Oracle(channel, ForkServer(control))
    while True:
        try:
            message, _ = channel.receive()
        except WireClosed:
            return
        try:
            channel.send({"done": oracle.answer(message)})
        except ProblemError as error:
            channel.send({"problem": str(error)})
        except WireClosed:
            return
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            channel.send({"fault": text, "traceback": traceback.format_exc()[-8000:]})


@dataclass
class _Opened:
    settings: Settings
    visible: str | None
    emulation: bool
    nursery: Nursery
    allowances: Allowances


class Oracle:
    """State between messages: the judges of the problems seen so far."""

    def __init__(self, channel: Channel, server: ForkServer) -> None:
        self._channel = channel
        self._server = server
        self._opened: _Opened | None = None
        self._judges: dict[str, Judge] = {}

    def answer(self, message: Message) -> Message:
        """Carry out one message."""
        if message["op"] == "open":
            return self._open(message)
        if message["op"] == "health":
            return health.examine("cpu" if message["cpu"] else "cuda:0")
        judge = self._judge(message["problem"])
        if message["op"] in ("expect", "judge"):
            request = Request(
                source=message.get("source", ""),
                policy=GradientPolicy(message["gradients"] or judge.problem.gradients),
                work=WorkPolicy(message["work"]),
                clocked=message["clocked"],
                batch=message["batch"],
                more=message["more"],
            )
            if message["op"] == "expect":
                judge.get_ready(request)
                return {}
            return _outcome(judge.judge(request, self._extension, self._stage))
        if message["op"] == "admit":
            differentiate = judge.problem.gradients is not GradientPolicy.OFF
            tf32 = judge.problem.tf32
            return {"dummies": admission.examine(judge.trials(), tf32, gradients=differentiate)}
        return self._baseline(judge, message)

    def _open(self, message: Message) -> Message:
        visible = message["visible"]
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
            torch.zeros(1, device="cuda:0")
        settings = Settings.model_validate(message["settings"])
        allowances = Allowances.model_validate(message["allowances"])
        nursery = Nursery(maker(self._server, settings, visible, message["hidden"]))
        self._opened = _Opened(settings, visible, message["emulation"], nursery, allowances)
        return {}

    def _judge(self, wire: dict[str, Any]) -> Judge:
        if self._opened is None:
            raise RuntimeError("the oracle has not been opened")
        file = ProblemFile(wire["name"], Path(wire["path"]), wire["source"])
        key = f"{file.path}:{file.sha256}"
        if key not in self._judges:
            problem = Problem.load(file, gpu=self._opened.visible is not None)
            if self._opened.emulation:
                problem = problem.for_emulation()
            self._close()  # one problem's tensors at a time on the device
            self._judges[key] = Judge(
                problem,
                self._opened.nursery,
                self._opened.settings,
                visible=self._opened.visible,
                emulation=self._opened.emulation,
                allowances=self._opened.allowances,
            )
        return self._judges[key]

    def _close(self) -> None:
        for judge in self._judges.values():
            judge.close()
        self._judges.clear()
        gc.collect()
        torch.cuda.empty_cache()

    def _baseline(self, judge: Judge, message: Message) -> Message:
        """Speedups of a compiled reference, of a solution, and of the reference over itself."""
        gradients = judge.problem.gradients is not GradientPolicy.OFF
        source, solution = judge.problem.file.source, message["solution"]
        found: dict[str, list[Message]] = {}
        failures: dict[str, str] = {}
        for name, text, entry in (
            ("eager", source, "Model"),
            ("compiled", source, "Model"),
            ("solution", solution, "ModelNew"),
        ):
            if text is None or name not in message["wanted"]:
                continue
            try:
                speedups = self._clock_against(judge, text, entry, name, gradients)
                found[name] = [s.model_dump(mode="json") for s in speedups]
            except Stop as stop:
                failures[name] = stop.findings[0].message
        return {"speedups": found, "failures": failures}

    def _clock_against(
        self, judge: Judge, text: str, entry: str, name: str, gradients: bool
    ) -> list[Speedup]:
        with (
            judge.session(self._extension, trusted=True) as baseline,
            judge.session(self._extension) as other,
        ):
            judge.load(baseline, judge.problem.file.source, "Model")
            judge.load(other, text, entry)
            return judge.clock(
                judge.problem.clocked,
                baseline,
                other,
                gradients=gradients,
                compiled=name == "compiled",
            )

    def _stage(self, stage: Stage) -> None:
        self._channel.send({"stage": str(stage)})

    def _extension(self, spec: Message) -> tuple[Message, list[int]]:
        """Have the grader build what a worker asks for."""
        self._channel.send({"build": spec})
        reply, fds = self._channel.receive()
        return reply, fds


def _outcome(outcome: Outcome) -> Message:
    return {
        "verdict": outcome.verdict,
        "stage": outcome.stage,
        "findings": [f.model_dump(mode="json") for f in outcome.findings],
        "trials": [t.model_dump(mode="json") for t in outcome.trials],
        "speedups": [s.model_dump(mode="json") for s in outcome.speedups],
        "gradients": outcome.gradients,
        "seconds": {str(k): v for k, v in outcome.seconds.items()},
        "sandbox": outcome.sandbox,
        "launches": outcome.launches,
        "kernels": [k.model_dump(mode="json") for k in outcome.kernels],
    }
