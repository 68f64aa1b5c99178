"""One judgement from end to end: extract, screen, build, then the oracle's stages.

``Grader`` owns the processes (fork server, builder, one oracle) and can judge any
number of generations (``once`` for a single one). ``prepare`` (``read``, then
``build``) needs no device and is safe to call from several threads; ``judge`` holds
the device.

Does not: import torch, print, or decide which files belong to which problem.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.admission import Admission, DummyResult
from harness.build import Builder
from harness.building import Refusal, Unbuilt, Workshop
from harness.devices import Gpu, LeaseTaken, architectures_of, choose, lease
from harness.emulation.preparation import prepare
from harness.errors import DeviceFault, HarnessFault, UsageError
from harness.generation import Generation, Prepared
from harness.launches import prepare as prepare_census
from harness.oracle_link import Artifact, OracleLink, Report, no_artifact
from harness.problems import ProblemFile
from harness.readers import Readers
from harness.reading import Reading, settled
from harness.records import (
    DeviceKind,
    Evaluation,
    Finding,
    Fingerprints,
    GradientPolicy,
    Gradients,
    Kernel,
    Policy,
    Severity,
    Speedup,
    Stage,
    Tf32Policy,
    Trial,
    Verdict,
    WorkPolicy,
)
from harness.resources import answers
from harness.sandbox import Level, require
from harness.settings import Settings
from harness.store import allowances_of
from harness.supervisor import Child, ForkServer, Limits
from harness.version import __version__
from harness.vitals import Vitals
from harness.wire import Message

Step = Callable[[Prepared], Verdict | None]

_HEALTH_SECONDS = 60.0
"""How long a healthy device may take for a small computation, its context's start included."""


def start_server(settings: Settings, gpus: Iterable[Gpu | None]) -> ForkServer:
    """A fork server for these devices; where one is a GPU, launches are counted."""
    counted = any(gpu is not None for gpu in gpus)
    census = prepare_census(settings.prepared_dir) if counted else None
    return ForkServer.start(census=census, settings=settings)


class Grader:
    """Judges generations on one device; use as a context manager."""

    def __init__(
        self,
        device: str = "auto",
        *,
        settings: Settings | None = None,
        gradients: GradientPolicy | None = None,
        work: WorkPolicy = WorkPolicy.LENIENT,
        clocked: bool = True,
        hidden: tuple[Path, ...] = (),
        server: ForkServer | None = None,
        readers: Readers | None = None,
        architectures: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """For one device.

        Args:
            device: ``auto``, ``cuda``, ``cuda:N``, ``emulated`` or ``cpu``.
            settings: Limits and places.
            gradients: The policy; each problem's own by default.
            work: What PyTorch may compute for a candidate.
            clocked: Whether to measure speedups of what passes.
            hidden: What candidates must not see, besides the cache.
            server: A fork server to share; one of its own by default.
            readers: Processes for texts that were started ahead; they end with the grader.
            architectures: What to build for, as torch names it; the device's own by default.
            say: Called with a sentence when something of the host's is waited for.
        """
        self.device, self._gpu = choose(device)
        self._architectures = architectures or architectures_of((self._gpu,))
        self._say: Callable[[str], None] = say or (lambda text: None)
        self._vitals = Vitals(self._gpu)
        self.settings = settings or Settings()
        self._gradients = gradients
        self._work = work
        self._emulated = self.device.kind is DeviceKind.EMULATED
        self._clocked = clocked and not self._emulated
        self._hidden = [self.settings.cache_dir, *answers(), *hidden]
        self._owned = contextlib.ExitStack()
        self._shared = server
        self._server: ForkServer | None = None
        self._workers: ForkServer | None = None
        self._workshop: Workshop | None = None
        self._link: OracleLink | None = None
        self._leased = False
        self._readers = readers or Readers()
        self._reading = Reading(self.settings, self._readers)
        self._batch = secrets.token_hex(8)
        self._judged = 0

    def __enter__(self) -> Self:
        """Start the processes; nobody waits for one before it is needed.

        Raises:
            PreparationFault: the emulated device could not be built (once per installation).
            UsageError: the sandbox that is required does not work on this machine.
        """
        require(Level(self.settings.require_sandbox))
        self.settings.cache_dir.mkdir(parents=True, exist_ok=True)
        self._owned.callback(self._readers.close)
        if self._shared is not None:
            self._server = self._shared
        else:
            self._readers.warm()
            self._server = start_server(self.settings, (self._gpu,))
            self._owned.callback(self._server.close)
        if self._emulated:
            prepared = prepare(self.settings.prepared_dir)
            self._workers = ForkServer.start(prepared.library, settings=self.settings)
            self._owned.callback(self._workers.close)
            builder = Builder(self._server, self.settings, prepared=prepared)
        else:
            self._workers = self._server
            architectures = self._architectures
            builder = Builder(self._server, self.settings, architectures=architectures)
        self._workshop = Workshop(
            builder, self.device.kind, self.settings, self._worker, self._readers
        )
        self._link = OracleLink(self._start_oracle, self._opening)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process and give the device back."""
        self._oracle.drop()
        self._owned.close()

    def abandon(self) -> None:
        """End every process at once, so that no thread waits for one; nothing works after."""
        self._readers.close()
        self._running.close()
        self._makers.close()

    def grade(
        self, generation: Generation, problem: ProblemFile, report: Report | None = None
    ) -> Evaluation:
        """Judge one generation.

        Raises:
            HarnessFault: something of ours failed.
            ProblemError: the problem cannot be executed.
        """
        self._batch = secrets.token_hex(8)  # a text that comes later must get other questions
        prepared = self.read(generation, problem, report)
        if prepared.evaluation is None:
            self._expect(problem)
            self.build(prepared, report)
        return prepared.evaluation or self.judge(prepared, report)

    def _expect(self, problem: ProblemFile) -> None:
        """Have the oracle get ready for a problem while its candidate is built."""
        with contextlib.suppress(DeviceFault):
            if self.hold(0):
                message = self._request("expect", problem)
                self._oracle.expect(message, self._patience)

    # Stages without a device

    def prepare(
        self, generation: Generation, problem: ProblemFile, report: Report | None = None
    ) -> Prepared:
        """Extract, screen and build. Safe to call from several threads."""
        prepared = self.read(generation, problem, report)
        return prepared if prepared.evaluation is not None else self.build(prepared, report)

    def read(
        self, generation: Generation, problem: ProblemFile, report: Report | None = None
    ) -> Prepared:
        """Extract and screen, which takes little time. Safe to call from several threads."""
        prepared = Prepared(generation, problem, datetime.now(UTC).isoformat(timespec="seconds"))
        on_cpu = self.device.kind is DeviceKind.CPU
        waived = self._policy_of(problem) is GradientPolicy.OFF
        self._run(Stage.EXTRACT, self._reading.take_candidate, prepared, report)
        if prepared.evaluation is None:
            look = functools.partial(self._reading.look_over, on_cpu=on_cpu, waived=waived)
            self._run(Stage.SCREEN, look, prepared, report)
        return prepared

    def build(self, prepared: Prepared, report: Report | None = None) -> Prepared:
        """Build what was read."""
        self._run(Stage.BUILD, self._shop.build, prepared, report)
        return prepared

    def build_late(self, prepared: Prepared, late: Unbuilt) -> None:
        """Build what a candidate asked for only on the device; what came of it is kept."""
        begun = time.perf_counter()
        self._shop.make_late(late.spec, prepared)
        prepared.seconds[Stage.BUILD] += time.perf_counter() - begun

    def _run(self, stage: Stage, step: Step, prepared: Prepared, report: Report | None) -> None:
        if report is not None:
            report(stage)
        begun = time.perf_counter()
        ended = step(prepared)
        prepared.seconds[stage] = time.perf_counter() - begun
        if ended is not None:
            prepared.evaluation = self._evaluation(prepared, ended, stage)

    # Stages on the device

    def judge(
        self,
        prepared: Prepared,
        report: Report | None = None,
        patient: Callable[[], bool] = lambda: True,
    ) -> Evaluation:
        """Run the oracle's stages on a prepared candidate; holds the device.

        Raises:
            Unbuilt: the candidate asks for what it did not ask for when it was prepared, and
                the caller is not ``patient`` enough to have it built meanwhile.
            OracleFault: the oracle failed; it is replaced before the next judgement.
            DeviceFault: the device fell ill meanwhile, so there is no verdict.
            ProblemError: the problem cannot be executed.
        """
        failed_builds: list[Refusal] = []
        done = self._ask_oracle(
            self._request("judge", prepared.problem) | {"source": prepared.candidate},
            lambda spec: self._shop.serve(spec, prepared, failed_builds, patient),
            report,
        )
        self._judged += 1
        self._vitals.check()
        verdict, stage = Verdict(done["verdict"]), Stage(done["stage"])
        findings = [Finding.model_validate(f) for f in done["findings"]]
        early = verdict in (Verdict.LOAD_FAILED, Verdict.RUNTIME_ERROR, Verdict.WRONG_INTERFACE)
        if failed_builds and early and stage in (Stage.LOAD, Stage.INTERFACE):
            verdict, findings = failed_builds[0][0], [*failed_builds[0][1], *findings]
        prepared.findings = [*findings, *prepared.findings]
        prepared.seconds |= {Stage(k): v for k, v in done["seconds"].items()}
        return self._evaluation(
            prepared,
            verdict,
            stage,
            gradients=Gradients(done["gradients"]),
            trials=tuple(Trial.model_validate(t) for t in done["trials"]),
            speedups=tuple(Speedup.model_validate(s) for s in done["speedups"]),
            launches=done["launches"],
            kernels=tuple(Kernel.model_validate(k) for k in done["kernels"]),
            sandbox=done["sandbox"],
        )

    def baseline(
        self, problem: ProblemFile, solution: str | None, wanted: tuple[str, ...]
    ) -> tuple[dict[str, tuple[Speedup, ...]], dict[str, str]]:
        """Clock the reference against itself, compiled, and against a solution.

        Raises:
            OracleFault, ProblemError: as for ``judge``.
            UsageError: the device is an emulated one, which has no speed.
        """
        if self._emulated:
            raise UsageError(
                "the emulated device has no speed to measure; name --device cuda, or --device cpu"
            )
        failures: list[Refusal] = []
        prepared = Prepared(Generation("solution", solution or ""), problem, "")
        prepared.candidate = solution
        if solution is not None:
            for spec in self._shop.collect(prepared):
                self._shop.make(spec, prepared)
        done = self._ask_oracle(
            {
                "op": "baseline",
                "problem": _wire(problem),
                "solution": solution,
                "wanted": list(wanted),
            },
            lambda spec: self._shop.serve(spec, prepared, failures),
        )
        speedups = {
            name: tuple(Speedup.model_validate(s) for s in found)
            for name, found in done["speedups"].items()
        }
        return speedups, done["failures"]

    def admit(self, problem: ProblemFile) -> Admission:
        """Hold dummies against a problem: whether it can be trusted.

        Raises:
            OracleFault, ProblemError: as for ``judge``.
        """
        message = {"op": "admit", "problem": _wire(problem)}
        done = self._ask_oracle(message)
        return Admission(
            problem=problem.name,
            problem_sha256=problem.sha256,
            device=self.device,
            harness_version=__version__,
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            dummies=tuple(DummyResult.model_validate(d) for d in done["dummies"]),
        )

    def _request(self, op: str, problem: ProblemFile) -> Message:
        """What the oracle needs to know of a judgement, but for the candidate."""
        return {
            "op": op,
            "problem": _wire(problem),
            "gradients": self._gradients,
            "work": self._work,
            "clocked": self._clocked,
            "batch": self._batch,
            "more": self._shared is not None or self._judged > 0,
        }

    def _ask_oracle(
        self,
        message: Message,
        artifact: Artifact = no_artifact,
        report: Report | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        if not self.hold(0):
            self._say(f"waiting for {self.name}, which another harness holds")
            self.hold()
        return self._oracle.ask(message, seconds or self._patience, artifact, report)

    @property
    def _patience(self) -> float:
        """Seconds that an oracle may say nothing."""
        return self.settings.silence_seconds + self.settings.stage_seconds

    def hold(self, seconds: float = -1) -> bool:
        """Take the device's lease, if it is not held yet; whether it is held now.

        Raises:
            DeviceFault: the device does not answer its driver.
        """
        if not self._leased:
            folder = self.settings.cache_dir / "leases"
            try:
                self._owned.enter_context(lease(self._gpu, folder, seconds=seconds))
            except LeaseTaken:
                return False
            self._leased = True
            self._vitals.begin()
        return True

    def examine(self) -> None:
        """Look at the device from a fresh oracle, where no candidate has been.

        Raises:
            DeviceFault: the driver cannot reach it, no oracle can be opened on it, or it
                computes wrongly.
        """
        self._oracle.drop()
        try:
            self._vitals.check()
            message: Message = {"op": "health", "cpu": self._gpu is None}
            self._ask_oracle(message, seconds=_HEALTH_SECONDS)
        except HarnessFault as error:
            self._oracle.drop()
            raise DeviceFault(f"a fresh oracle fails on it: {error}") from error

    def _start_oracle(self) -> Child:
        return Child.oracle(self._running, self._makers)

    def _opening(self) -> Message:
        return {
            "op": "open",
            "visible": self._gpu.uuid if self._gpu else None,
            "emulation": self._emulated,
            "settings": self.settings.model_dump(mode="json"),
            "hidden": [str(p) for p in self._hidden],
            "allowances": allowances_of(self.device, self.settings).model_dump(),
        }

    # Common

    @property
    def name(self) -> str:
        """The device's short name: ``cuda:0``, ``cpu``, ``emulated``."""
        return f"cuda:{self._gpu.index}" if self._gpu else str(self.device.kind)

    def _worker(self) -> Child:
        return Child.confined(self._makers, "worker", Limits.of(self.settings), hidden=self._hidden)

    @property
    def _running(self) -> ForkServer:
        if self._server is None:
            raise RuntimeError("a Grader is used as a context manager")
        return self._server

    @property
    def _makers(self) -> ForkServer:
        """The fork server that makes workers."""
        if self._workers is None:
            raise RuntimeError("a Grader is used as a context manager")
        return self._workers

    @property
    def _oracle(self) -> OracleLink:
        if self._link is None:
            raise RuntimeError("a Grader is used as a context manager")
        return self._link

    @property
    def _shop(self) -> Workshop:
        if self._workshop is None:
            raise RuntimeError("a Grader is used as a context manager")
        return self._workshop

    def _policy_of(self, problem: ProblemFile) -> GradientPolicy:
        """Whether gradients are judged: as asked for, else as the problem declares."""
        declared = problem.policy("GRADIENTS", GradientPolicy, GradientPolicy.REQUIRED)
        return self._gradients or declared

    def _evaluation(
        self,
        prepared: Prepared,
        verdict: Verdict,
        stage: Stage,
        *,
        gradients: Gradients = Gradients.NOT_REACHED,
        trials: tuple[Trial, ...] = (),
        speedups: tuple[Speedup, ...] = (),
        launches: dict[str, int] | None = None,
        kernels: tuple[Kernel, ...] = (),
        sandbox: str = "nothing was run",
    ) -> Evaluation:
        problem, generation = prepared.problem, prepared.generation
        rank = list(Severity)
        return Evaluation(
            harness_version=__version__,
            generation=generation.name,
            problem=problem.name,
            fingerprints=Fingerprints(
                generation=generation.sha256,
                candidate=prepared.candidate_sha256,
                problem=problem.sha256,
            ),
            verdict=verdict,
            stage=stage,
            device=self.device,
            policy=Policy(
                gradients=self._policy_of(problem),
                tf32=problem.policy("TF32", Tf32Policy, Tf32Policy.FORBIDDEN),
                work=self._work,
                sandbox=sandbox,
            ),
            findings=tuple(
                sorted(settled(verdict, prepared.findings), key=lambda f: rank.index(f.severity))
            ),
            builds=tuple(prepared.builds.values()),
            gradients=gradients,
            trials=trials,
            speedups=speedups,
            launches=launches or {},
            kernels=kernels,
            stage_seconds=prepared.seconds,
            builder_wait_seconds=prepared.builder_wait,
            device_wait_seconds=prepared.device_wait,
            wall_seconds=prepared.elapsed,
            started_at=prepared.started_at,
        )


def _wire(problem: ProblemFile) -> Message:
    return {"name": problem.name, "path": str(problem.path), "source": problem.source}
