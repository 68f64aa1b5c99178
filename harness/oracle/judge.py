"""The stages that need a device: load, interface, shape, values, gradients, time.

Takes a candidate's text and gives an ``Outcome``; every way in which a candidate
can fail ends here as a ``Stop``, every failure of ours passes through.

Does not: extract, screen or build (see ``grader``).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from harness.calibration import Allowances
from harness.errors import OracleFault, ProblemError
from harness.oracle import audit, auditor, draws, emulated
from harness.oracle.baseline import Baseline
from harness.oracle.clock import Clock
from harness.oracle.deck import Deck
from harness.oracle.interface import check_state
from harness.oracle.nursery import Nursery
from harness.oracle.problem import Case, Problem
from harness.oracle.progress import Progress, Report
from harness.oracle.reference import Question, Reference
from harness.oracle.room import Room
from harness.oracle.session import Session
from harness.oracle.stop import Stop, crowded_out, distinct, out_of_time
from harness.oracle.telemetry import Thermometer
from harness.oracle.trials import Outcome as TrialOutcome
from harness.oracle.trials import run as run_trial
from harness.records import (
    Finding,
    GradientPolicy,
    Gradients,
    Kernel,
    Mode,
    Speedup,
    Stage,
    Tf32Policy,
    Trial,
    Verdict,
    WorkPolicy,
)
from harness.settings import Settings
from harness.supervisor import ChildEnded, Extension
from harness.wire import Message

_DECK_SHARE = 4
"""What part of the device's memory (of at most 8 GiB of the host's) the deck may hold, one in."""
_SHOWN = 4
"""Most wrong trials that are reported; the others would say the same."""


@dataclass
class Outcome:
    """What the oracle found."""

    verdict: Verdict
    stage: Stage
    findings: list[Finding]
    trials: list[Trial]
    speedups: list[Speedup]
    gradients: Gradients
    seconds: dict[Stage, float]
    sandbox: str
    launches: dict[str, int]
    kernels: list[Kernel]


@dataclass
class Request:
    """What the oracle is asked to judge."""

    source: str
    policy: GradientPolicy
    work: WorkPolicy
    clocked: bool
    batch: str
    """Candidates of one batch are asked the same questions."""
    more: bool
    """Whether another candidate is likely to follow."""


class Judge:
    """Judges candidates of one problem on one device."""

    def __init__(
        self,
        problem: Problem,
        nursery: Nursery,
        settings: Settings,
        *,
        visible: str | None,
        emulation: bool = False,
        allowances: Allowances | None = None,
    ) -> None:
        """On the GPU called ``visible``, or else on the CPU, with workers from the ``nursery``.

        With ``emulation`` they have the emulated device; the reference
        runs on the CPU all the same.
        """
        self.problem = problem
        self._emulation = emulation
        self._nursery = nursery
        self._settings = settings
        self._visible = visible
        self._allowances = allowances or Allowances()
        self._device = torch.device("cuda:0" if visible is not None else "cpu")
        self._references: dict[str, Reference] = {}
        self._deck = Deck(_deck_bytes(self._device))
        self._thermometer = Thermometer(visible)
        self._baseline = Baseline(
            lambda: self.session(_no_extension, trusted=True),
            lambda session: self.load(session, problem.file.source, "Model"),
        )
        self._admitted = False
        self._room = Room(gpu=visible is not None)

    def get_ready(self, request: Request) -> None:
        """Do beforehand what every candidate of the problem needs.

        Raises:
            ProblemError: as for ``judge``.
        """
        self._deck.begin(request.batch)
        self._admit(gradients=request.policy is not GradientPolicy.OFF)
        if self._visible is not None:
            self._nursery.expect()
        if request.clocked:
            with self._baseline.session():
                pass

    def judge(self, request: Request, extension: Extension, report: Report) -> Outcome:
        """Judge one candidate.

        Raises:
            ProblemError: the problem cannot judge anybody on this device.
        """
        self._deck.begin(request.batch)
        self._admit(gradients=request.policy is not GradientPolicy.OFF)
        progress = Progress(self._room)
        sandbox = "none"
        speedups: list[Speedup] = []
        reports = emulated.Reports(request.source) if self._emulation else None
        self._room.wait()  # what the candidate before this one held
        try:
            with self.session(extension, reports=reports) as session:
                sandbox = str(session.child.level)
                speedups = self._stages(request, session, progress, report)
            verdict, stage = Verdict.PASSED, Stage.TIME if request.clocked else Stage.AUDIT
        except Stop as stop:
            verdict, stage = stop.verdict, stop.stage
            progress.findings = [*stop.findings, *progress.findings]
        except torch.OutOfMemoryError as error:
            if not self._room.was_taken():
                raise OracleFault(f"the oracle ran out of device memory: {error}") from error
            verdict, stage = Verdict.OUT_OF_MEMORY, progress.stage
            progress.findings = [crowded_out(stage), *progress.findings]
        return Outcome(
            verdict,
            stage,
            [*progress.findings, *(reports.warnings if reports else [])],
            progress.trials,
            speedups,
            progress.gradients,
            progress.seconds,
            sandbox,
            progress.launches,
            progress.kernels,
        )

    @contextlib.contextmanager
    def session(
        self,
        extension: Extension,
        *,
        trusted: bool = False,
        reports: emulated.Reports | None = None,
    ) -> Iterator[Session]:
        """A fresh worker, killed at the end; ``trusted`` if it is to hold the reference."""
        try:
            worker = self._nursery.take()
        except ChildEnded as error:
            raise OracleFault(f"a worker could not be started: {error} {error.output}") from error
        session = Session(
            worker,
            self._device,
            self._settings,
            extension if reports is None else reports.listening(extension),
            trusted=trusted,
            reports=reports,
        )
        try:
            yield session
        finally:
            session.close()

    def load(self, session: Session, source: str, entry: str) -> None:
        """Import a module in a session, with the problem's precision flags."""
        session.load(source, entry, tf32=self.problem.tf32 is Tf32Policy.ALLOWED)

    def close(self) -> None:
        """End the process that is kept between candidates."""
        self._baseline.close()

    def trials(self) -> Iterator[tuple[Reference, draws.Draw]]:
        """Every trial of a judgement, in its order."""
        for case in self._all_cases():
            for draw in self._draws(case):
                yield self.reference(case), draw

    def reference(self, case: Case) -> Reference:
        """The reference's model for a case; made once."""
        if case.name not in self._references:
            self._references[case.name] = Reference(self.problem, case, self._device)
        return self._references[case.name]

    def _stages(
        self, request: Request, session: Session, progress: Progress, report: Report
    ) -> list[Speedup]:
        with progress.timed(Stage.LOAD, report):
            self.load(session, request.source, "ModelNew")
        if request.more and self._visible is not None:
            self._nursery.expect()
        with progress.timed(Stage.INTERFACE, report):
            for case in self._all_cases():
                self._check_interface(session, case)
        with progress.timed(Stage.VALUES, report):
            self._check_values(request, session, progress)
        with progress.timed(Stage.AUDIT, report):
            self._audit(session, progress, request.work)
        speedups = []
        if request.clocked:
            with progress.timed(Stage.TIME, report):
                self._nursery.settle()
                speedups = self._clock(session, progress)
        with progress.timed(Stage.AUDIT, report):
            self._look_back(session, progress, request.work)
        return speedups

    def _admit(self, *, gradients: bool) -> None:
        """Ask the largest questions once while no candidate is there to be blamed.

        Raises:
            ProblemError: the reference fails, or does not fit on the device.
        """
        if self._admitted:
            return
        for case in self._large_cases() or [self.problem.clocked]:
            try:
                self._question(case, draws.DECLARED, gradients=gradients)
            except torch.OutOfMemoryError as error:
                raise ProblemError(
                    f"{self.problem.file.path}: case {case.name!r} does not fit on this device "
                    "in float64, next to the declared precision; make its inputs smaller"
                ) from error
        self._room.note()
        self._admitted = True

    @property
    def _on_cuda(self) -> bool:
        """Whether candidates see a CUDA device, real or emulated."""
        return self._visible is not None or self._emulation

    def _all_cases(self) -> list[Case]:
        return [*self.problem.cases, *self._large_cases()]

    def _large_cases(self) -> list[Case]:
        """The headline: on a GPU always, on the CPU where no smaller case stands in for it."""
        return [] if self.problem.clocked in self.problem.cases else [self.problem.headline]

    def _check_interface(self, session: Session, case: Case) -> None:
        """The candidate takes the arguments, and has the reference's state by name."""
        found = session.construct(case, self.problem)
        check_state(case, self.reference(case).model.state_dict(), found)

    def _check_values(self, request: Request, session: Session, progress: Progress) -> None:
        """All trials: the small cases first, the headline only if they all passed."""
        wrong: list[TrialOutcome] = []
        policy = request.policy
        for case in self.problem.cases:
            for draw in self._draws(case):
                self._trial(session, case, draw, policy, progress, wrong)
            if len(wrong) >= _SHOWN:
                break
        self._stop_if_wrong(wrong)
        for case in self._large_cases():
            for draw in self._draws(case):
                self._trial(session, case, draw, policy, progress, wrong)
        self._stop_if_wrong(wrong)
        if policy is GradientPolicy.OFF:
            progress.gradients = Gradients.WAIVED
        elif progress.gradients is Gradients.NOT_REACHED:
            nothing_to_differentiate = policy is GradientPolicy.REQUIRED
            progress.gradients = Gradients.WAIVED if nothing_to_differentiate else Gradients.ABSENT

    def _audit(self, session: Session, progress: Progress, work: WorkPolicy) -> None:
        """The candidate's own kernels do the work (R04)."""
        if self._visible is not None and session.launches is None:
            raise OracleFault("workers were started without the launch census")
        gradients = progress.gradients is Gradients.CHECKED
        ask = self._asking(gradients=gradients)
        seen = auditor.examine(session, self.problem, ask, work, gradients=gradients)
        progress.launches, progress.kernels = seen.launches, seen.kernels
        progress.findings += distinct(seen.notes)

    def _look_back(self, session: Session, progress: Progress, work: WorkPolicy) -> None:
        """The audit's questions that a candidate may not survive."""
        gradients = progress.gradients is Gradients.CHECKED
        terms = self.problem, self._asking(gradients=gradients), work
        auditor.look_back(session, *terms, gradients=gradients)

    def _asking(self, *, gradients: bool) -> auditor.Ask:
        return lambda case, purpose: self._declared(case, purpose, gradients=gradients)

    def _draws(self, case: Case) -> list[draws.Draw]:
        """What a case goes through: everything, if it is the one that is probed."""
        problem = self.problem
        if case is problem.probe:
            return draws.for_probe(special=problem.special_values, gpu=self._on_cuda)
        if case is problem.headline:
            return draws.for_headline()
        return draws.for_small([c.name for c in problem.cases].index(case.name))

    def _trial(
        self,
        session: Session,
        case: Case,
        draw: draws.Draw,
        policy: GradientPolicy,
        progress: Progress,
        wrong: list[TrialOutcome],
    ) -> None:
        if progress.elapsed() > self._settings.stage_seconds:
            raise out_of_time(Stage.VALUES, self._settings.stage_seconds)
        if self._emulation and draw.late and not session.launched:
            raise Stop(Verdict.REJECTED, Stage.AUDIT, audit.no_launch())
        absent = progress.gradients is Gradients.ABSENT
        differentiate = policy is not GradientPolicy.OFF and not absent
        question = self._question(case, draw, gradients=differentiate)
        if question is None:
            return
        first = not progress.trials or progress.trials[-1].case != case.name
        if first:
            session.construct(case, self.problem)
        if first and self._emulation:
            outcome = self._in_every_order(session, question, policy, progress)
        else:
            outcome = run_trial(session, question, policy)
        progress.trials.append(outcome.trial)
        if outcome.verdict is not None:
            wrong.append(outcome)
        elif question.gradients and differentiate:
            if not outcome.has_backward:
                progress.gradients = Gradients.ABSENT
            elif outcome.trial.has_gradients:
                progress.gradients = Gradients.CHECKED

    def _in_every_order(
        self,
        session: Session,
        question: Question,
        policy: GradientPolicy,
        progress: Progress,
    ) -> TrialOutcome:
        """One trial under every schedule of the emulated device; its outcome if all agree.

        Raises:
            Stop: with ``racy``, if some orders give the right result and others do not.
        """
        outcomes: list[TrialOutcome] = []
        allocations: list[int] = []
        for orders in emulated.SCHEDULES:
            session.schedule(orders)
            outcomes.append(run_trial(session, question, policy))
            allocations.append(session.allocations)
        session.schedule(emulated.SCHEDULES[0])
        if (leak := emulated.leak(allocations, question.case.name)) is not None:
            progress.findings = [f for f in progress.findings if f.rule != leak.rule] + [leak]
        named = list(zip(map(emulated.describe, emulated.SCHEDULES), outcomes, strict=True))
        right = [name for name, outcome in named if outcome.verdict is None]
        wrong = [name for name, outcome in named if outcome.verdict is not None]
        failed = next((o for o in outcomes if o.verdict is not None), outcomes[0])
        if right and wrong and outcomes[0].verdict is None:
            again = run_trial(session, question, policy)
            if again.verdict is not None:  # not the order: something is kept from call to call
                return again
        if right and wrong:
            progress.trials.append(failed.trial)
            gradients = failed.verdict is Verdict.WRONG_GRADIENTS
            stage = Stage.GRADIENTS if gradients else Stage.VALUES
            raise emulated.racy(stage, right, wrong, failed.findings[0])
        return failed

    def _stop_if_wrong(self, wrong: list[TrialOutcome]) -> None:
        if not wrong:
            return
        values = [w for w in wrong if w.verdict is not Verdict.WRONG_GRADIENTS]
        verdict = Verdict.WRONG_VALUES if values else Verdict.WRONG_GRADIENTS
        stage = Stage.VALUES if values else Stage.GRADIENTS
        findings = distinct(f for w in (values or wrong) for f in w.findings)
        raise Stop(verdict, stage, *findings[: 2 * _SHOWN])

    def _clock(self, session: Session, progress: Progress) -> list[Speedup]:
        gradients = progress.gradients is Gradients.CHECKED
        with self._baseline.session() as baseline:
            return self.clock(self.problem.clocked, baseline, session, gradients=gradients)

    def clock(
        self,
        case: Case,
        baseline: Session,
        candidate: Session,
        *,
        gradients: bool,
        compiled: bool = False,
    ) -> list[Speedup]:
        """Clock two loaded sessions on a case, in every mode that applies."""
        for session in (baseline, candidate):
            session.construct(case, self.problem)
        if compiled:
            candidate.compile()
        question = self._declared(case, "clock", gradients=gradients)
        sides = baseline, candidate
        terms = self._settings, self._allowances
        clock = Clock(self.reference(case), question, *sides, *terms, self._thermometer)
        modes = [Mode.FORWARD, *([Mode.BACKWARD, Mode.TRAINING_STEP] if gradients else [])]
        try:
            return [clock.measure(mode) for mode in modes]
        finally:
            clock.close()

    def _declared(self, case: Case, purpose: str, *, gradients: bool) -> Question:
        """A question of the declared draw, for a purpose of its own."""
        question = self._question(case, draws.DECLARED, gradients=gradients, purpose=purpose)
        if question is None:
            raise RuntimeError("the declared draw always has a meaning")
        return question

    def _question(
        self, case: Case, draw: draws.Draw, *, gradients: bool, purpose: str = "trial"
    ) -> Question | None:
        """A question of the deck; where memory is short, the deck is given up first."""
        key = (case.name, draw, gradients, purpose)

        def make() -> Question | None:
            return self.reference(case).ask(draw, _seed(), gradients=gradients)

        try:
            return self._deck.ask(key, make)
        except torch.OutOfMemoryError:
            self._deck.clear()
            torch.cuda.empty_cache()
            return self._deck.ask(key, make)


def _no_extension(spec: Message) -> tuple[Message, list[int]]:
    del spec
    return {"error": "the reference builds no extension"}, []


def _deck_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // _DECK_SHARE)
    return (8 << 30) // _DECK_SHARE


def _seed() -> int:
    """Drawn by the operating system, after the batch's candidates were read."""
    return secrets.randbits(62)
