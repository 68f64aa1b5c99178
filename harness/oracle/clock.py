"""Clocks the candidate against the reference: alternating turns, fresh inputs, two clocks.

Two workers hold the two modules and take turns on one device in the order ABBA,
so that drift of clocks and heat cancels. Each call is one round trip: the oracle
writes inputs that were never seen before, starts its own clock, reveals them,
and stops when it holds a private copy of the answer. The worker's event time
gives precision; the oracle's outer time bounds the lie. Some answers, chosen
after they are committed, are compared with float64 values.

Does not: believe an event time that the outer clock contradicts.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness.intervals import paired_ratio, without_outliers
from harness.oracle.reference import Question, Reference
from harness.oracle.session import Laid, Session
from harness.oracle.stop import Stop, out_of_time
from harness.oracle.trials import judge_gradients, judge_outputs
from harness.records import Comparison, Finding, Latency, Mode, Severity, Speedup, Stage, Verdict
from harness.settings import Settings
from harness.worker.trees import flatten

_TURN_MS = 25.0
_CALLS = (3, 12)
"""Fewest and most calls of a turn; in between, as many as fill ``_TURN_MS``."""
_FEWEST_PAIRS = 4
"""Pairs that are measured even when the time is up."""
_WARM_SECONDS, _WARM_CALLS = 0.3, 5
_JUDGED = 6
"""How many timed answers of one mode are judged, about."""
_CYCLES_PER_MS = 1.8e6
_LONGEST_MS = 1e7
_GATE_MS = (0.02, 20.0)
"""Shortest and longest delay gate."""


@dataclass
class _Runner:
    """One of the two modules, as it is clocked."""

    session: Session
    judged: bool
    laid: Laid | None = None
    turns: list[float] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)
    outer: list[float] = field(default_factory=list)
    hosts: list[float] = field(default_factory=list)


class Clock:
    """Clocks one pair of sessions on one question's case."""

    def __init__(
        self,
        reference: Reference,
        question: Question,
        baseline: Session,
        candidate: Session,
        settings: Settings,
    ) -> None:
        self._reference = reference
        self._question = question
        self._sessions = (baseline, candidate)
        self._settings = settings
        self._slack = slack_ms if baseline.on_gpu else cpu_slack_ms
        self._deadline = time.perf_counter() + settings.stage_seconds

    def measure(self, mode: Mode) -> Speedup:
        """Clock one mode until the interval is narrow or the time is up.

        Raises:
            Stop: the candidate failed, a judged answer was wrong, or its clock lies.
        """
        a, b = (_Runner(s, judged=i == 1) for i, s in enumerate(self._sessions))
        for runner in (a, b):
            runner.laid = runner.session.lay(self._question)
            runner.session.write_weights(runner.laid)
        gate = self._warm(mode, a, b)
        calls = self._calls(a, b)
        judged = self._take_turns(mode, a, b, calls, gate)
        kept_a, kept_b = without_outliers(a.turns, b.turns)
        ratio = paired_ratio(kept_a, kept_b)
        if mode is not Mode.BACKWARD:  # there the outer clock holds an untimed forward too
            _check_clocks(mode, a, b, self._slack)
        flops, moved = (None, None)
        if mode is Mode.FORWARD:
            flops, moved = self._reference.work(self._question)
        return Speedup(
            flops=flops,
            bytes_moved=moved,
            mode=mode,
            reference=_latency(kept_a, a),
            candidate=_latency(kept_b, b),
            low=ratio.low,
            high=ratio.high,
            pairs=len(kept_a),
            outer_reference_ms=statistics.median(a.outer),
            outer_candidate_ms=statistics.median(b.outer),
            outputs_judged=judged,
        )

    def _warm(self, mode: Mode, a: _Runner, b: _Runner) -> int:
        """Bring both to speed, and find a gate that outlasts the issuing of a call."""
        for runner in (a, b):
            begun, calls = time.perf_counter(), 0
            while calls < _WARM_CALLS or time.perf_counter() - begun < _WARM_SECONDS:
                self._call(mode, runner, 0)
                calls += 1
        host = max(statistics.median(r.hosts[_WARM_CALLS // 2 :]) for r in (a, b))
        gate_ms = min(max(1.5 * host, _GATE_MS[0]), _GATE_MS[1])
        return int(gate_ms * _CYCLES_PER_MS)

    def _calls(self, a: _Runner, b: _Runner) -> int:
        slowest = max(statistics.median(r.samples) for r in (a, b))
        for runner in (a, b):
            runner.samples.clear()
            runner.outer.clear()
        return int(min(max(_TURN_MS / slowest, _CALLS[0]), _CALLS[1]))

    def _take_turns(self, mode: Mode, a: _Runner, b: _Runner, calls: int, gate: int) -> int:
        """Turns in the order ABBA; returns how many answers were judged."""
        fewest = self._settings.clock_turns
        chance = min(1.0, _JUDGED / (fewest * calls))
        judged, begun, pair = 0, time.perf_counter(), 0
        while True:
            for runner in ((a, b), (b, a))[pair % 2]:
                judged += self._turn(mode, runner, calls, gate, chance)
            pair += 1
            if pair % 2 or pair < _FEWEST_PAIRS:
                continue
            if time.perf_counter() - begun > self._settings.clock_seconds:
                break
            ratio = paired_ratio(*without_outliers(a.turns, b.turns))
            if pair >= fewest and ratio.half_width <= self._settings.clock_precision:
                break
        return judged + (0 if judged else self._turn(mode, b, 1, gate, 1.0, keep=False))

    def _turn(
        self,
        mode: Mode,
        runner: _Runner,
        calls: int,
        gate: int,
        chance: float,
        *,
        keep: bool = True,
    ) -> int:
        self._call(mode, runner, gate)  # the first call after a hand-over pays for it
        runner.samples.pop()
        runner.outer.pop()
        judged = 0
        for _ in range(calls):
            committed = self._call(mode, runner, gate)
            if runner.judged and secrets.randbelow(1 << 20) < chance * (1 << 20):
                committed()
                judged += 1
        if keep:
            runner.turns.append(statistics.median(runner.samples[-calls:]))
        return judged

    def _call(self, mode: Mode, runner: _Runner, gate: int) -> Callable[[], None]:
        """One timed call; what it returns judges the answer, if called."""
        if time.perf_counter() > self._deadline:
            raise out_of_time(Stage.TIME, self._settings.stage_seconds)
        question = self._reference.again(self._question, secrets.randbits(62))
        laid, arena = runner.laid, runner.session.arena
        if laid is None:
            raise RuntimeError("nothing has been laid out")
        gradients = [] if mode is Mode.FORWARD else list(laid.gradients.values())
        answers = [*laid.outputs, *gradients]
        for slot in answers:
            arena.poison(slot)
        fresh = [tensor for _, tensor in flatten(question.args, "input")]
        runner.session.synchronize()
        begun = time.perf_counter()
        for slot, tensor in zip(laid.inputs, fresh, strict=True):
            arena.view(slot).copy_(tensor)
        if mode is not Mode.FORWARD:
            for slot, tensor in zip(laid.cotangents, question.cotangents, strict=True):
                arena.view(slot).copy_(tensor)
        runner.session.synchronize()
        reply = runner.session.clock(laid, mode, gate)
        held = [arena.view(slot).clone() for slot in answers]
        runner.session.synchronize()
        outer = (time.perf_counter() - begun) * 1e3
        sample = reply.get("sample")
        _note(runner, sample, outer)
        return lambda: self._judge(mode, question, held, laid)

    def _judge(self, mode: Mode, question: Question, held: list[torch.Tensor], laid: Laid) -> None:
        answered = self._reference.answer(question)
        outputs, gradients = held[: len(laid.outputs)], held[len(laid.outputs) :]
        compared: list[Comparison] = []
        if mode is not Mode.BACKWARD:
            compared += judge_outputs(answered, outputs)
        if mode is not Mode.FORWARD:
            compared += judge_gradients(answered, dict(zip(laid.gradients, gradients, strict=True)))
        for found in compared:
            if not found.passed:
                raise _wrong_when_timed(mode, found)


def _note(runner: _Runner, sample: object, outer: float) -> None:
    """Keep a sample, if the worker sent what a sample is."""
    if not isinstance(sample, dict):
        raise _tampered("The candidate's process sent no sample.")
    event, host = sample.get("milliseconds"), sample.get("host_milliseconds")
    for value in (event, host):
        if not isinstance(value, float | int) or not 0 < value < _LONGEST_MS:
            raise _tampered(f"The candidate's process claims a time of {str(value)[:40]}.")
    runner.samples.append(float(event))  # type: ignore[arg-type]
    runner.hosts.append(float(host))  # type: ignore[arg-type]
    runner.outer.append(outer)


def _latency(turns: list[float], runner: _Runner) -> Latency:
    middle = statistics.geometric_mean(turns)
    return Latency(
        milliseconds=middle,
        fastest=min(*runner.samples, middle),
        slowest=max(*runner.samples, middle),
        samples=len(runner.samples),
    )


def slack_ms(event_ms: float, overhead_ms: float) -> float:
    """How much longer the outer clock may run than the event clock, beyond the reference's own.

    A copy of a strided output and the host's part of a call differ between honest
    modules; an event clock that lies by more than this is found.
    """
    return 0.3 * event_ms + 0.5 * overhead_ms + 0.3


def cpu_slack_ms(event_ms: float, overhead_ms: float) -> float:
    """The same on the CPU, where builds and other work share the cores with both clocks."""
    return 2 * event_ms + 3 * overhead_ms + 50.0


def _low(values: list[float]) -> float:
    """The lower quartile: other work on the machine only ever adds to the outer clock."""
    return statistics.quantiles(values, n=4)[0] if len(values) > 1 else values[0]


def _check_clocks(
    mode: Mode, a: _Runner, b: _Runner, slack: Callable[[float, float], float]
) -> None:
    overhead = max(0.0, _low(a.outer) - _low(a.samples))
    event_b = _low(b.samples)
    claimed = _low(b.outer) - event_b
    allowed = overhead + slack(event_b, overhead)
    if claimed > allowed:
        raise _tampered(
            f"The candidate's event clock says {event_b:.4g} ms for the {mode}, but the oracle's "
            f"own clock saw {claimed:.4g} ms more than that; {allowed:.4g} ms is the most that "
            "handing over explains."
        )


def _tampered(message: str) -> Stop:
    finding = Finding(
        rule="time.clocks_disagree",
        severity=Severity.ERROR,
        stage=Stage.TIME,
        message=message,
        advice="Do all work on the current stream (join side streams before returning), and "
        "leave timers alone.",
    )
    return Stop(Verdict.TAMPERED, Stage.TIME, finding)


def _wrong_when_timed(mode: Mode, found: Comparison) -> Stop:
    forward = found.role.value == "output"
    verdict = Verdict.WRONG_VALUES if forward else Verdict.WRONG_GRADIENTS
    finding = Finding(
        rule="time.mismatch",
        severity=Severity.ERROR,
        stage=Stage.TIME,
        message=f"In a timed call of the {mode} the {found.tensor} was wrong (relative L2 error "
        f"{found.error.relative_l2:.3g}, budget {found.budget.relative_l2:.3g}), although it was "
        "right before.",
        advice="Compute every call from its own inputs: nothing may be cached between calls.",
    )
    return Stop(verdict, Stage.TIME, finding)
