"""Clocks the candidate against the reference: alternating turns, fresh inputs, two clocks.

Two workers hold the two modules and take turns on one device in the order ABBA,
so that drift of clocks and heat cancels; both get the same fresh inputs. Turns give
precision: many calls, queued faster than the device runs them, each on a cold cache. Spot checks
bound the lie: single calls, whose inputs nobody knows before the oracle's own clock
starts, and whose answers the oracle takes at once and compares with float64 values.

Does not: believe a time that the oracle's clock, or a spot check, contradicts.
"""

from __future__ import annotations

import functools
import secrets
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from harness.calibration import Allowances
from harness.errors import DeviceFault
from harness.intervals import interquartile_mean, paired_ratio, widened, without_outliers
from harness.oracle import integrity
from harness.oracle.reference import Question, Reference
from harness.oracle.rounds import BadSample, Pace, Round, Spot, bytes_per_call
from harness.oracle.session import Session
from harness.oracle.stop import Stop, out_of_time
from harness.oracle.telemetry import Thermometer
from harness.oracle.trials import judge_gradients, judge_outputs
from harness.records import Comparison, Finding, Latency, Mode, Severity, Speedup, Stage, Verdict
from harness.settings import Settings
from harness.worker.clock import Sample

_TURN_MS = 25.0
_CALLS = {"cuda": (1, 16), "cpu": (1, 5)}
"""Fewest and most calls of a turn that count; in between, as many as fill ``_TURN_MS``.

Short calls do not make longer turns: what the calls of a turn have in common, such as the place in
the driver's ring of launches, is averaged out by more turns and not by more calls.
"""
_HOST_ROOM_BYTES = 1 << 28
_ROOM_BYTES, _ROOM_SHARE = 3 << 30, 24
"""Most room for a turn's tensors on a GPU, and the part of its memory that it may be, one in."""
_LONG_MS = 20.0
"""Calls longer than this do not notice what the hand-over of the device costs."""
_WARM_SECONDS = 0.1
"""The trials before have woken the device already."""
_FEWEST_PAIRS = 4
"""Pairs that are measured even when the time is up; for long calls they are enough."""
_SPOTS = {"cuda": (2, 8), "cpu": (3, 3)}
"""Fewest and most spot checks of one mode; in between, as many as take ``_SPOT_SECONDS``."""
_SPOT_SECONDS = 0.25
_LOOKS = 4
_ANSWER_BYTES = 3 << 30
_JUDGING_SECONDS = 0.1
"""How long answers of one mode are judged; one of a spot check and one of a turn always are."""
_CYCLES_PER_MS = 1.8e6
_HOLD_MS = 0.03
"""How far the host gets ahead of the device besides, before every call."""
_LONGEST_HOLD_MS = 20.0
_WAITING = 0.2
"""Share of a module's calls that find the device waiting for them, of one that waits for it."""
_UNSTEADY_SECONDS = 60.0
_UNSTEADY = "the GPU was slowed down (heat or power) all the time, so nothing could be clocked"
_UNKNOWN = None, None


@dataclass
class _Side:
    """One of the two modules, as it is clocked."""

    round: Round
    turns: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)
    waited: list[Sample] = field(default_factory=list)

    def begin(self) -> None:
        self.turns, self.samples, self.spots, self.waited = [], [], [], []

    def keep(self, spot: Spot) -> None:
        """Keep a spot check, and of the answers as many as memory allows, chosen by chance."""
        self.spots.append(spot)
        kept = [s for s in self.spots if s.question is not None]
        if len(kept) > 1 and sum(s.answer_bytes for s in kept) > _ANSWER_BYTES:
            secrets.choice(kept).forget()

    @property
    def milliseconds(self) -> list[float]:
        return [s.milliseconds for s in self.samples]

    def seen(self) -> integrity.Seen:
        return integrity.Seen(
            self.milliseconds,
            [s.sample.milliseconds for s in self.spots],
            [s.done_ms for s in self.spots],
            [s.held_ms for s in self.spots],
            [s.milliseconds for s in self.waited],
        )

    @property
    def waits(self) -> bool:
        """Whether its calls wait for the device, so that they cannot be queued ahead of it."""
        return statistics.fmean(not s.gated for s in self.samples) > _WAITING


class Clock:
    """Clocks one pair of sessions on one question's case."""

    def __init__(
        self,
        reference: Reference,
        question: Question,
        baseline: Session,
        candidate: Session,
        settings: Settings,
        allowances: Allowances,
        thermometer: Thermometer,
    ) -> None:
        self._reference = reference
        self._question = question
        self._settings = settings
        self._thermometer = thermometer
        self._on_gpu = baseline.on_gpu
        self._allowances = allowances
        on_gpu = replace(integrity.GPU, done_ms=allowances.done_ms)
        self._kind = "cuda" if self._on_gpu else "cpu"
        self._slack = on_gpu if self._on_gpu else integrity.CPU
        self._deadline = time.perf_counter() + settings.stage_seconds
        fitting = int(self._room() / max(1, bytes_per_call(question)))
        fewest, most = _CALLS[self._kind]
        calls = 1 + min(max(fitting - 1, fewest), most)
        self._sides = (
            _Side(Round(baseline, question, calls)),
            _Side(Round(candidate, question, calls)),
        )
        self._warm = False

    def _room(self) -> int:
        """Bytes for the tensors of a turn's calls in each worker."""
        if not self._on_gpu:
            return _HOST_ROOM_BYTES
        memory = torch.cuda.get_device_properties(0).total_memory
        return int(min(_ROOM_BYTES, memory // _ROOM_SHARE))

    def close(self) -> None:
        """Let go of what the rounds hold."""
        for side in self._sides:
            side.round.close()

    def measure(self, mode: Mode) -> Speedup:
        """Clock one mode until the interval is narrow or the time is up.

        Raises:
            Stop: the candidate failed, a judged answer was wrong, or its clock lies.
        """
        a, b = self._sides
        try:
            self._thermometer.begin()
            pace = self._warm_up(mode)
            discarded, judged = self._take_turns(mode, pace)
            judged += self._spot_checks(mode)
        except BadSample as bad:
            raise _tampered(str(bad), bad.rule) from None
        turns_a, turns_b = without_outliers(a.turns, b.turns)
        candidate = _latency(turns_b, b)
        flops, moved = self._reference.work(self._question) if mode is Mode.FORWARD else _UNKNOWN
        self._check_floors(mode, _latency(turns_a, a), candidate, moved)
        seen_a, seen_b = a.seen(), b.seen()
        measured = paired_ratio(turns_a, turns_b)
        ratio = widened(measured, self._systematic(mode, candidate.milliseconds))
        return Speedup(
            flops=flops,
            bytes_moved=moved,
            mode=mode,
            reference=_latency(turns_a, a),
            candidate=candidate,
            low=ratio.low,
            high=ratio.high,
            statistical=measured.half_width,
            pairs=len(turns_a),
            outer_reference_ms=statistics.median(seen_a.done),
            outer_candidate_ms=statistics.median(seen_b.done),
            spot_reference_ms=statistics.median(seen_a.spots),
            spot_candidate_ms=statistics.median(seen_b.spots),
            spot_checks=len(b.spots) if b.round.hides else 0,
            host_bound=statistics.fmean(not s.gated for s in b.samples),
            outputs_judged=judged,
            telemetry=self._thermometer.read(discarded),
        )

    def _warm_up(self, mode: Mode) -> Pace:
        """Bring the device to speed, and find the pace of the turns."""
        begun, turns, pace = time.perf_counter(), 0, Pace(1, 1, 0)
        seconds = _WARM_SECONDS if not self._warm else _WARM_SECONDS / 10
        for side in self._sides:
            side.begin()
        while turns < 1 or time.perf_counter() - begun < seconds:
            for side in self._sides:
                self._turn(mode, side, self._fresh(pace.ahead + pace.calls), pace)
            turns += 1
            pace = self._pace(4)
        self._warm = True
        pace = self._pace(_CALLS[self._kind][1])
        for side in self._sides:
            side.begin()
        return pace

    def _pace(self, most: int) -> Pace:
        """Turns of at most so many calls, and of short ones a first that does not count."""
        slowest = max(statistics.median(side.milliseconds) for side in self._sides)
        host = max(
            statistics.median([s.host_milliseconds for s in side.samples]) for side in self._sides
        )
        wanted = int(min(max(_TURN_MS / slowest, _CALLS[self._kind][0]), most))
        ahead = int(slowest < _LONG_MS)
        calls = min(wanted, *(side.round.calls - ahead for side in self._sides))
        hold_ms = min(1.5 * host + _HOLD_MS, _LONGEST_HOLD_MS)
        return Pace(calls, ahead, int(hold_ms * _CYCLES_PER_MS))

    def _take_turns(self, mode: Mode, pace: Pace) -> tuple[int, int]:
        """Turns in the order ABBA; how many pairs were discarded, and how many answers judged."""
        a, b = self._sides
        fewest = self._settings.clock_turns if pace.ahead else _FEWEST_PAIRS
        to_judge = secrets.randbelow(_FEWEST_PAIRS)
        pair = discarded = judged = kept_from = 0
        begun = time.perf_counter()
        while True:
            fresh = self._fresh(pace.ahead + pace.calls)
            for side in ((a, b), (b, a))[pair % 2]:
                samples = self._turn(mode, side, fresh, pace)
                side.turns.append(interquartile_mean([s.milliseconds for s in samples]))
            if pair == to_judge:
                at = secrets.randbelow(len(fresh))
                self._judge(mode, fresh[at], *b.round.answers(at))
                judged += 1
            pair += 1
            slowed = self._thermometer.slowed()
            if slowed:
                discarded += len(a.turns) - kept_from
                for side in self._sides:
                    del side.turns[kept_from:]
            if slowed is not None:
                kept_from = len(a.turns)
            if pair % 2 or len(a.turns) < _FEWEST_PAIRS:
                if discarded and time.perf_counter() - begun > _UNSTEADY_SECONDS:
                    raise DeviceFault(_UNSTEADY)
                continue
            if time.perf_counter() - begun > self._settings.clock_seconds and judged:
                return discarded, judged
            ratio = paired_ratio(*without_outliers(a.turns, b.turns))
            wanted = max(self._settings.clock_precision, self._systematic(mode, a.turns[-1]))
            if pair >= fewest and ratio.half_width <= wanted:
                return discarded, judged

    def _turn(
        self, mode: Mode, side: _Side, fresh: Sequence[Question], pace: Pace
    ) -> Sequence[Sample]:
        """One turn's samples, without those that pay for the hand-over."""
        if time.perf_counter() > self._deadline:
            raise out_of_time(Stage.TIME, self._settings.stage_seconds)
        samples = side.round.turn(mode, fresh, pace)[pace.ahead :]
        side.samples += samples
        return samples

    def _spot_checks(self, mode: Mode) -> int:
        """Spot checks of both sides in turns; how many of the candidate's answers were judged.

        What looks like a lie is looked at again, several times: a busy host must accuse nobody.
        """
        a, b = self._sides
        slowest = max(statistics.median(side.milliseconds) for side in self._sides)
        fewest, most = _SPOTS[self._kind]
        wanted = int(min(max(1e3 * _SPOT_SECONDS / (slowest + 1.0), fewest), most))
        found: str | None = ""
        for _ in range(_LOOKS):
            for number in range(wanted):
                (fresh,) = self._fresh(1)
                for side in ((a, b), (b, a))[number % 2]:
                    spot = side.round.spot(mode, fresh, self._patience(side))
                    if side is a:
                        spot.forget()
                    side.keep(spot)
                if b.waits:
                    b.waited += b.round.turn(mode, self._fresh(1), self._waiting_pace(b))
            found = None
            if b.round.hides:
                found = integrity.contradiction(_words(mode), a.seen(), b.seen(), self._slack)
            if found is None:
                break
        if found is not None:
            raise _tampered(found, "time.clocks_disagree")
        begun, judged = time.perf_counter(), 0
        for spot in sorted(b.spots, key=lambda _: secrets.randbits(32)):
            if judged and time.perf_counter() - begun > _JUDGING_SECONDS:
                break
            if spot.question is not None:
                self._judge(mode, spot.question, spot.outputs, spot.gradients)
                judged += 1
        return judged

    @staticmethod
    def _patience(side: _Side) -> float:
        """Seconds that a worker gets to queue a call: many times what it took in turns."""
        host = statistics.median([s.host_milliseconds for s in side.samples])
        return min(0.005 + 4e-3 * host, 0.2)

    def _waiting_pace(self, side: _Side) -> Pace:
        """A turn of one call that has to wait for the device as long as a spot check has to."""
        hold_ms = min(1e3 * self._patience(side), _LONGEST_HOLD_MS)
        return Pace(1, 0, int(hold_ms * _CYCLES_PER_MS))

    def _fresh(self, calls: int) -> list[Question]:
        return self._reference.again(self._question, secrets.randbits(62), calls)

    def _judge(
        self,
        mode: Mode,
        question: Question,
        outputs: list[torch.Tensor],
        gradients: dict[str, torch.Tensor],
    ) -> None:
        answered = self._reference.answer(question, gradients=mode is not Mode.FORWARD)
        compared: list[Comparison] = []
        if mode is not Mode.BACKWARD:
            compared += judge_outputs(answered, outputs)
        if mode is not Mode.FORWARD:
            compared += judge_gradients(answered, gradients)
        for found in compared:
            if not found.passed:
                raise _wrong_when_timed(mode, found)

    def _check_floors(
        self, mode: Mode, reference: Latency, candidate: Latency, moved: int | None
    ) -> None:
        """Nobody moves bytes faster than the memory, or launches a kernel in less than a launch."""
        if not self._on_gpu:
            return
        floors = [(_launch_ms(), "a kernel that does nothing")]
        if moved is not None:
            floors.append((_memory_ms(moved), "moving its inputs and outputs at full bandwidth"))
        for floor, why in floors:
            known = integrity.impossible(_words(mode), reference.milliseconds, floor, why)
            found = integrity.impossible(_words(mode), candidate.milliseconds, floor, why)
            if found and not known:
                raise _tampered(found, "time.faster_than_light")

    def _systematic(self, mode: Mode, milliseconds: float) -> float:
        return self._allowances.half_width(mode, milliseconds, on_gpu=self._on_gpu)


def _memory_ms(moved: int) -> float:
    """Time to move what the cache cannot hold, at the memory's full bandwidth."""
    device = torch.cuda.get_device_properties(0)
    per_ms = 2 * device.memory_clock_rate * device.memory_bus_width / 8
    if not per_ms:  # memory that is the host's has no clock of its own
        return 0.0
    return float(max(0, moved - device.L2_cache_size) / per_ms)


@functools.cache
def _launch_ms() -> float:
    """What the event clock says of one kernel that does nothing."""
    word = torch.zeros(1, device="cuda")
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(40)]
    torch.cuda._sleep(int(5 * _CYCLES_PER_MS))
    for start, end in events:
        start.record()
        word.add_(1)
        end.record()
    torch.cuda.synchronize()
    return float(min(start.elapsed_time(end) for start, end in events))


def _latency(turns: list[float], side: _Side) -> Latency:
    middle = statistics.geometric_mean(turns)
    return Latency(
        milliseconds=middle,
        fastest=min(*side.milliseconds, middle),
        slowest=max(*side.milliseconds, middle),
        samples=len(side.samples),
    )


def _words(mode: Mode) -> str:
    return mode.replace("_", " ")


def _tampered(message: str, rule: str) -> Stop:
    finding = Finding(
        rule=rule,
        severity=Severity.ERROR,
        stage=Stage.TIME,
        message=message,
        advice="Do all work on the current stream and within the call (join side streams before "
        "returning), and leave timers alone.",
    )
    return Stop(Verdict.TAMPERED, Stage.TIME, finding)


def _wrong_when_timed(mode: Mode, found: Comparison) -> Stop:
    forward = found.role.value == "output"
    verdict = Verdict.WRONG_VALUES if forward else Verdict.WRONG_GRADIENTS
    finding = Finding(
        rule="time.mismatch",
        severity=Severity.ERROR,
        stage=Stage.TIME,
        message=f"In a timed call of the {_words(mode)} the {found.tensor} was wrong (relative L2 "
        f"error {found.error.relative_l2:.3g}, budget {found.budget.relative_l2:.3g}), although it "
        "was right before.",
        advice="Compute every call from its own inputs: nothing may be cached between calls.",
    )
    return Stop(verdict, Stage.TIME, finding)
