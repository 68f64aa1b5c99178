"""The stages that need a device: load, interface, shape, values, gradients, time.

Takes a candidate's text and gives an ``Outcome``; every way in which a candidate
can fail ends here as a ``Stop``, every failure of ours passes through.

Does not: extract, screen or build (see ``grader``).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.arena import name_of
from harness.errors import ProblemError
from harness.oracle import audit, draws, emulated
from harness.oracle.clock import Clock
from harness.oracle.problem import Case, Problem
from harness.oracle.reference import Question, Reference
from harness.oracle.session import Session
from harness.oracle.stop import Stop, out_of_time
from harness.oracle.trials import Outcome as TrialOutcome
from harness.oracle.trials import run as run_trial
from harness.records import (
    Finding,
    GradientPolicy,
    Gradients,
    Mode,
    Severity,
    Speedup,
    Stage,
    Tf32Policy,
    Trial,
    Verdict,
)
from harness.settings import Settings
from harness.supervisor import Child, Extension, ForkServer, Limits
from harness.wire import Message

_SHOWN = 4
"""Most wrong trials that are reported; the others would say the same."""

Report = Callable[[Stage], None]


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


@dataclass
class Request:
    """What the oracle is asked to judge."""

    source: str
    policy: GradientPolicy
    clocked: bool


@dataclass
class _Progress:
    trials: list[Trial] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seconds: dict[Stage, float] = field(default_factory=dict)
    gradients: Gradients = Gradients.NOT_REACHED
    launches: dict[str, int] = field(default_factory=dict)
    stage_begun: float = 0.0

    def elapsed(self) -> float:
        """Seconds since the running stage began."""
        return time.perf_counter() - self.stage_begun


class Judge:
    """Judges candidates of one problem on one device."""

    def __init__(
        self,
        problem: Problem,
        server: ForkServer,
        settings: Settings,
        *,
        visible: str | None,
        emulation: bool = False,
        hidden: Iterable[str],
    ) -> None:
        """On the GPU called ``visible``, or else on the CPU.

        With ``emulation`` the server's workers have the emulated device; the reference
        runs on the CPU all the same.
        """
        self.problem = problem
        self._emulation = emulation
        self._server = server
        self._settings = settings
        self._visible = visible
        self._hidden = list(hidden)
        self._device = torch.device("cuda:0" if visible is not None else "cpu")
        self._references: dict[str, Reference] = {}
        self._admitted = False

    def judge(self, request: Request, extension: Extension, report: Report) -> Outcome:
        """Judge one candidate.

        Raises:
            ProblemError: the problem cannot judge anybody on this device.
        """
        self._admit(gradients=request.policy is not GradientPolicy.OFF)
        progress = _Progress()
        sandbox = "none"
        speedups: list[Speedup] = []
        reports = emulated.Reports(request.source) if self._emulation else None
        try:
            with self.session(extension, reports=reports) as session:
                sandbox = str(session.child.level)
                speedups = self._stages(request, session, progress, report)
            verdict, stage = Verdict.PASSED, Stage.TIME if request.clocked else Stage.AUDIT
        except Stop as stop:
            verdict, stage = stop.verdict, stop.stage
            progress.findings = [*stop.findings, *progress.findings]
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
        )

    @contextmanager
    def session(
        self,
        extension: Extension,
        *,
        trusted: bool = False,
        reports: emulated.Reports | None = None,
    ) -> Iterator[Session]:
        """A fresh worker, killed at the end; ``trusted`` if it is to hold the reference."""
        child = Child.confined(
            self._server,
            "worker",
            Limits.of(self._settings),
            hidden=[Path(p) for p in self._hidden],
            gpu=self._visible is not None,
        )
        session = Session(
            child,
            self._device,
            self._visible,
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
        session.load(
            source,
            entry,
            tf32=self.problem.tf32 is Tf32Policy.ALLOWED,
            threads=os.cpu_count() or 1,
        )

    def reference(self, case: Case) -> Reference:
        """The reference's model for a case; made once."""
        if case.name not in self._references:
            self._references[case.name] = Reference(self.problem, case, self._device)
        return self._references[case.name]

    def _stages(
        self, request: Request, session: Session, progress: _Progress, report: Report
    ) -> list[Speedup]:
        with _timed(progress, Stage.LOAD, report):
            self.load(session, request.source, "ModelNew")
        with _timed(progress, Stage.INTERFACE, report):
            for case in self._all_cases():
                self._check_interface(session, case)
        with _timed(progress, Stage.VALUES, report):
            self._check_values(request, session, progress)
        with _timed(progress, Stage.AUDIT, report):
            self._audit(session, progress)
        if not request.clocked:
            return []
        with _timed(progress, Stage.TIME, report):
            return self._clock(request, session, progress)

    def _admit(self, *, gradients: bool) -> None:
        """Ask the largest questions once while no candidate is there to be blamed.

        Raises:
            ProblemError: the reference fails, or does not fit on the device.
        """
        if self._admitted:
            return
        for case in self._large_cases() or [self.problem.clocked]:
            try:
                self.reference(case).ask(draws.DECLARED, _seed(), gradients=gradients)
            except torch.OutOfMemoryError as error:
                raise ProblemError(
                    f"{self.problem.file.path}: case {case.name!r} does not fit on this device "
                    "in float64, next to the declared precision; make its inputs smaller"
                ) from error
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
        model = self.reference(case).model
        found = session.construct(case, self.problem)
        got = {str(m.get("name"))[:200]: (_shape(m.get("shape")), m.get("dtype")) for m in found}
        wanted = {
            name: (tuple(tensor.shape), name_of(tensor.dtype))
            for name, tensor in model.state_dict().items()
        }
        if got != wanted:
            raise Stop(Verdict.WRONG_INTERFACE, Stage.INTERFACE, _state_finding(case, got, wanted))

    def _check_values(self, request: Request, session: Session, progress: _Progress) -> None:
        """All trials: the small cases first, the headline only if they all passed."""
        wrong: list[TrialOutcome] = []
        policy = request.policy
        for i, case in enumerate(self.problem.cases):
            for draw in self._draws(case is self.problem.probe, i):
                self._trial(session, case, draw, policy, progress, wrong)
            if len(wrong) >= _SHOWN:
                break
        self._stop_if_wrong(wrong)
        for case in self._large_cases():
            chosen = draws.for_headline() if self.problem.cases else self._draws(True, 0)
            for draw in chosen:
                self._trial(session, case, draw, policy, progress, wrong)
        self._stop_if_wrong(wrong)
        if policy is GradientPolicy.OFF:
            progress.gradients = Gradients.WAIVED
        elif progress.gradients is Gradients.NOT_REACHED:
            nothing_to_differentiate = policy is GradientPolicy.REQUIRED
            progress.gradients = Gradients.WAIVED if nothing_to_differentiate else Gradients.ABSENT

    def _audit(self, session: Session, progress: _Progress) -> None:
        """The candidate's own kernels do the work (R04)."""
        gradients = progress.gradients is Gradients.CHECKED
        case = self.problem.probe
        session.construct(case, self.problem)
        laid = session.lay(self._question(case, gradients=gradients))
        session.write_weights(laid)
        session.reveal_cotangents(laid)
        operators, progress.launches = session.audit(laid, gradients=gradients)
        found = audit.findings(operators)
        if self._emulation and not progress.launches:
            found.append(emulated.no_launch())
        errors = [f for f in found if f.severity is Severity.ERROR]
        if errors:
            raise Stop(Verdict.REJECTED, Stage.AUDIT, *errors)
        progress.findings += found

    def _draws(self, probe: bool, index: int) -> list[draws.Draw]:
        if not probe:
            return draws.for_small(index)
        return draws.for_probe(special=self.problem.special_values, gpu=self._on_cuda)

    def _trial(
        self,
        session: Session,
        case: Case,
        draw: draws.Draw,
        policy: GradientPolicy,
        progress: _Progress,
        wrong: list[TrialOutcome],
    ) -> None:
        if progress.elapsed() > self._settings.stage_seconds:
            raise out_of_time(Stage.VALUES, self._settings.stage_seconds)
        if self._emulation and draw.late and not session.launched:
            raise Stop(Verdict.REJECTED, Stage.AUDIT, emulated.no_launch())
        absent = progress.gradients is Gradients.ABSENT
        differentiate = policy is not GradientPolicy.OFF and not absent
        try:
            question = self.reference(case).ask(draw, _seed(), gradients=differentiate)
        except torch.OutOfMemoryError as error:
            raise Stop(Verdict.OUT_OF_MEMORY, Stage.VALUES, _crowded_out(case)) from error
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
            progress.gradients = Gradients.CHECKED if outcome.has_backward else Gradients.ABSENT

    def _in_every_order(
        self,
        session: Session,
        question: Question,
        policy: GradientPolicy,
        progress: _Progress,
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
        findings = _distinct(f for w in (values or wrong) for f in w.findings)
        raise Stop(verdict, stage, *findings[: 2 * _SHOWN])

    def _clock(self, request: Request, session: Session, progress: _Progress) -> list[Speedup]:
        gradients = progress.gradients is Gradients.CHECKED
        case = self.problem.clocked
        with self.session(_no_extension, trusted=True) as baseline:
            self.load(baseline, self.problem.file.source, "Model")
            return self.clock(case, baseline, session, gradients=gradients)

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
        question = self._question(case, gradients=gradients)
        clock = Clock(self.reference(case), question, baseline, candidate, self._settings)
        modes = [Mode.FORWARD, *([Mode.BACKWARD, Mode.TRAINING_STEP] if gradients else [])]
        return [clock.measure(mode) for mode in modes]

    def _question(self, case: Case, *, gradients: bool) -> Question:
        question = self.reference(case).ask(draws.DECLARED, _seed(), gradients=gradients)
        if question is None:
            raise RuntimeError("the declared draw always has a meaning")
        return question


def _no_extension(spec: Message) -> tuple[Message, list[int]]:
    del spec
    return {"error": "the reference builds no extension"}, []


@contextmanager
def _timed(progress: _Progress, stage: Stage, report: Report) -> Iterator[None]:
    report(stage)
    progress.stage_begun = time.perf_counter()
    try:
        yield
    finally:
        progress.seconds[stage] = progress.elapsed()


def _seed() -> int:
    """Drawn by the operating system, after the candidate was loaded."""
    return secrets.randbits(62)


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    seen: dict[str, Finding] = {}
    for finding in findings:
        seen.setdefault(finding.message, finding)
    return list(seen.values())


def _state_finding(
    case: Case,
    got: Mapping[str, tuple[object, object]],
    wanted: Mapping[str, tuple[object, object]],
) -> Finding:
    missing = [n for n in wanted if n not in got]
    extra = [n for n in got if n not in wanted]
    other = [n for n in wanted if n in got and got[n] != wanted[n]]
    parts = []
    if missing:
        parts.append(f"lacks {', '.join(missing)}")
    if extra:
        parts.append(f"has {', '.join(extra)} that the reference has not")
    with suppress(IndexError):
        n = other[0]
        parts.append(f"holds {n} as {_describe(got[n])}, the reference as {_describe(wanted[n])}")
    return Finding(
        rule="R02",
        severity=Severity.ERROR,
        stage=Stage.INTERFACE,
        message=f"For case {case.name!r} the candidate's state_dict {' and '.join(parts)}.",
        advice="Keep the reference's parameters and buffers under the same names "
        f"({', '.join(wanted) or 'there are none'}): weights are copied by name.",
    )


def _crowded_out(case: Case) -> Finding:
    return Finding(
        rule="values.device_memory",
        severity=Severity.ERROR,
        stage=Stage.VALUES,
        message=f"For case {case.name!r} the reference fitted on the device before the candidate "
        "was there, and no longer does: the candidate keeps device memory between calls.",
        advice="Free what a call allocates, and keep no workspace that grows.",
    )


def _shape(value: object) -> tuple[object, ...] | None:
    return tuple(value) if isinstance(value, list) else None


def _describe(fact: tuple[object, object]) -> str:
    return f"{fact[1]} of shape {fact[0]}"
