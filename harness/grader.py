"""One judgement from end to end: extract, screen, build, then the oracle's stages.

``Grader`` owns the processes (fork server, builder, one oracle) and can judge any
number of generations; ``grade`` is the one-shot form. ``prepare`` needs no device
and is safe to call from several threads; ``judge`` holds the device.

Does not: import torch, print, or decide which files belong to which problem.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from harness.build import Artifact, Builder, BuildFailure, ExtensionSpec, diagnostics
from harness.devices import Gpu, choose, lease, nvcc
from harness.errors import OracleFault, ProblemError
from harness.extract import extract
from harness.generation import Generation, Prepared
from harness.problems import ProblemFile, find
from harness.records import (
    DeviceKind,
    Evaluation,
    Finding,
    Fingerprints,
    GradientPolicy,
    Gradients,
    Policy,
    Severity,
    Speedup,
    Stage,
    Tf32Policy,
    Trial,
    Verdict,
)
from harness.screening import screen, signature_of
from harness.settings import Settings
from harness.supervisor import Cause, Child, ChildEnded, ForkServer, Limits, ending
from harness.version import __version__
from harness.wire import Message

Report = Callable[[Stage], None]


class Grader:
    """Judges generations on one device; use as a context manager."""

    def __init__(
        self,
        device: str = "auto",
        *,
        settings: Settings | None = None,
        gradients: GradientPolicy | None = None,
        clocked: bool = True,
        hidden: tuple[Path, ...] = (),
        server: ForkServer | None = None,
    ) -> None:
        self.device, self._gpu = choose(device)
        self.settings = settings or Settings()
        self._gradients = gradients
        self._clocked = clocked
        self._hidden = [self.settings.cache_dir, *hidden]
        self._owned = contextlib.ExitStack()
        self._shared = server
        self._server: ForkServer | None = None
        self._builder: Builder | None = None
        self._oracle: Child | None = None
        self._leased = False

    def __enter__(self) -> Self:
        """Start the fork server; nobody waits for it before it is needed."""
        self.settings.cache_dir.mkdir(parents=True, exist_ok=True)
        if self._shared is not None:
            self._server = self._shared
        else:
            self._server = ForkServer.start()
            self._owned.callback(self._server.close)
        self._builder = Builder(
            self._server, self.settings, architectures=_architectures(self._gpu), jobs=2
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process and give the device back."""
        self._drop_oracle()
        self._owned.close()

    def abandon(self) -> None:
        """End every process at once, so that no thread waits for one; nothing works after."""
        self._running.close()

    def grade(
        self, generation: Generation, problem: ProblemFile, report: Report | None = None
    ) -> Evaluation:
        """Judge one generation.

        Raises:
            HarnessFault: something of ours failed.
            ProblemError: the problem cannot be executed.
        """
        prepared = self.prepare(generation, problem, report)
        return prepared.evaluation or self.judge(prepared, report)

    # Stages without a device

    def prepare(
        self, generation: Generation, problem: ProblemFile, report: Report | None = None
    ) -> Prepared:
        """Extract, screen and build. Safe to call from several threads."""
        prepared = Prepared(generation, problem, datetime.now(UTC).isoformat(timespec="seconds"))
        for stage, step in (
            (Stage.EXTRACT, self._extract),
            (Stage.SCREEN, self._screen),
            (Stage.BUILD, self._build),
        ):
            if report is not None:
                report(stage)
            begun = time.perf_counter()
            ended = step(prepared)
            prepared.seconds[stage] = time.perf_counter() - begun
            if ended is not None:
                prepared.evaluation = self._evaluation(prepared, ended, stage)
                break
        return prepared

    def _extract(self, prepared: Prepared) -> Verdict | None:
        extraction = extract(prepared.generation.text)
        prepared.findings += extraction.findings
        prepared.candidate = extraction.candidate
        return Verdict.NO_CODE if extraction.candidate is None else None

    def _screen(self, prepared: Prepared) -> Verdict | None:
        native = self.device.kind is DeviceKind.CPU and "__global__" not in self._text(prepared)
        screening = screen(
            self._text(prepared), signature_of(prepared.problem.source), native=native
        )
        prepared.findings += screening.findings
        if not screening.syntax_ok:
            return Verdict.SYNTAX_ERROR
        # What a compiler is going to say is left for the compiler to say.
        rules = [f for f in screening.errors if not f.rule.startswith("build.")]
        return Verdict.REJECTED if rules else None

    def _build(self, prepared: Prepared) -> Verdict | None:
        specs = self._collect(prepared)
        needs_gpu = any(s.is_cuda for s in specs)
        without_gpu = needs_gpu and self.device.kind is DeviceKind.CPU
        if without_gpu and nvcc() is None:
            return self._unsupported(prepared, "There is no nvcc here either, so it was not built.")
        if without_gpu and not self.settings.build_without_gpu:
            return self._unsupported(prepared, "The settings say not to build it either.")
        for spec in specs:
            if wrong := self._build_one(spec, prepared):
                prepared.findings = [*wrong[1], *prepared.findings]
                return wrong[0]
        if without_gpu:
            return self._unsupported(prepared, "It compiles; nothing was run.")
        return None

    def _collect(self, prepared: Prepared) -> list[ExtensionSpec]:
        """Import the candidate in a worker without a device, to learn what it builds.

        Whatever goes wrong here is left for the load stage to find and to name.
        """
        specs: list[ExtensionSpec] = []

        def take(wire: Message) -> tuple[Message, list[int]]:
            with contextlib.suppress(ValidationError):
                specs.append(ExtensionSpec.model_validate(wire))
            return {}, []

        message = {
            "op": "collect",
            "source": prepared.candidate,
            "entry": "ModelNew",
            "problem": prepared.problem.source,
        }
        with ending(self._worker()) as child, contextlib.suppress(ChildEnded):
            child.request(message, self.settings.load_seconds, extension=take)
        return specs

    def _build_one(
        self, spec: ExtensionSpec, prepared: Prepared
    ) -> tuple[Verdict, list[Finding]] | None:
        """Build one extension; the verdict and findings where that fails."""
        try:
            artifact = self._tools.build(spec)
        except BuildFailure as failure:
            return _build_ended(failure)
        if artifact.succeeded:
            return None
        found = diagnostics.findings(spec, artifact.log, self._text(prepared))
        return Verdict.BUILD_FAILED, found

    def _unsupported(self, prepared: Prepared, addition: str) -> Verdict:
        prepared.findings.append(
            Finding(
                rule="build.no_gpu",
                severity=Severity.ERROR,
                stage=Stage.BUILD,
                message=f"The candidate holds CUDA kernels, and this machine has no usable GPU. "
                f"{addition}",
                advice="Judge it on a machine with an NVIDIA GPU and a CUDA build of PyTorch.",
            )
        )
        return Verdict.UNSUPPORTED

    # Stages on the device

    def judge(self, prepared: Prepared, report: Report | None = None) -> Evaluation:
        """Run the oracle's stages on a prepared candidate; holds the device.

        Raises:
            OracleFault: the oracle failed; it is replaced before the next judgement.
            ProblemError: the problem cannot be executed.
        """
        failed_builds: list[tuple[Verdict, list[Finding]]] = []
        done = self._ask_oracle(
            {
                "op": "judge",
                "problem": _wire(prepared.problem),
                "source": prepared.candidate,
                "gradients": self._gradients,
                "clocked": self._clocked,
            },
            lambda spec: self._serve_artifact(spec, prepared, failed_builds),
            report,
        )
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
            sandbox=done["sandbox"],
        )

    def baseline(
        self, problem: ProblemFile, solution: str | None, wanted: tuple[str, ...]
    ) -> tuple[dict[str, tuple[Speedup, ...]], dict[str, str]]:
        """Clock the reference against itself, compiled, and against a solution.

        Raises:
            OracleFault, ProblemError: as for ``judge``.
        """
        failures: list[tuple[Verdict, list[Finding]]] = []
        prepared = Prepared(Generation("solution", solution or ""), problem, "")
        prepared.candidate = solution
        if solution is not None:
            for spec in self._collect(prepared):
                self._build_one(spec, prepared)
        done = self._ask_oracle(
            {
                "op": "baseline",
                "problem": _wire(problem),
                "solution": solution,
                "wanted": list(wanted),
            },
            lambda spec: self._serve_artifact(spec, prepared, failures),
            None,
        )
        speedups = {
            name: tuple(Speedup.model_validate(s) for s in found)
            for name, found in done["speedups"].items()
        }
        return speedups, done["failures"]

    def _ask_oracle(
        self,
        message: Message,
        artifact: Callable[[Message], tuple[Message, list[int]]],
        report: Report | None,
    ) -> dict[str, Any]:
        try:
            oracle = self._open_oracle()
            oracle.post(message)
            while True:
                reply = oracle.next()
                if "done" in reply:
                    done: dict[str, Any] = reply["done"]
                    return done
                if "stage" in reply and report is not None:
                    report(Stage(reply["stage"]))
                elif "build" in reply:
                    answer, fds = artifact(reply["build"])
                    oracle.post(answer, fds)
                    for fd in fds:
                        os.close(fd)
                elif "problem" in reply:
                    raise ProblemError(reply["problem"])
                elif "fault" in reply:
                    raise OracleFault(f"{reply['fault']}\n{reply.get('traceback', '')}")
        except ChildEnded as error:
            self._drop_oracle()
            raise OracleFault(f"the oracle died: {error} {error.output}") from error
        except OracleFault:
            self._drop_oracle()
            raise

    def _serve_artifact(
        self,
        wire: Message,
        prepared: Prepared,
        failures: list[tuple[Verdict, list[Finding]]],
    ) -> tuple[Message, list[int]]:
        """What a worker gets for a spec: the library's descriptor, or words."""
        try:
            spec = ExtensionSpec.model_validate(wire)
        except ValidationError as error:
            return {"error": f"this is not an extension that can be built: {error}"}, []
        if spec.is_cuda and self.device.kind is DeviceKind.CPU:
            return {"error": "there is no GPU for CUDA sources"}, []
        if wrong := self._build_one(spec, prepared):
            failures.append(wrong)
            return {"error": f"Error building extension '{spec.name}'"}, []
        built: Artifact = self._tools.build(spec)
        return {"artifact": built.key}, [self._tools.store.open(built)]

    def _open_oracle(self) -> Child:
        if self._oracle is None:
            if not self._leased:
                self._owned.enter_context(lease(self._gpu, self.settings.cache_dir / "leases"))
                self._leased = True
            self._oracle = Child.oracle(self._running)
            self._oracle.post(
                {
                    "op": "open",
                    "visible": str(self._gpu.index) if self._gpu else None,
                    "settings": self.settings.model_dump(mode="json"),
                    "hidden": [str(p) for p in self._hidden],
                }
            )
            hello = self._oracle.next(300)
            if "fault" in hello:
                raise OracleFault(hello["fault"])
        return self._oracle

    def _drop_oracle(self) -> None:
        if self._oracle is not None:
            self._oracle.kill()
            self._oracle = None

    # Common

    def _worker(self) -> Child:
        return Child.confined(
            self._running, "worker", Limits.of(self.settings), hidden=self._hidden
        )

    @property
    def _running(self) -> ForkServer:
        if self._server is None:
            raise RuntimeError("a Grader is used as a context manager")
        return self._server

    @property
    def _tools(self) -> Builder:
        if self._builder is None:
            raise RuntimeError("a Grader is used as a context manager")
        return self._builder

    @staticmethod
    def _text(prepared: Prepared) -> str:
        return prepared.candidate or ""

    def _evaluation(
        self,
        prepared: Prepared,
        verdict: Verdict,
        stage: Stage,
        *,
        gradients: Gradients = Gradients.NOT_REACHED,
        trials: tuple[Trial, ...] = (),
        speedups: tuple[Speedup, ...] = (),
        sandbox: str = "nothing was run",
    ) -> Evaluation:
        problem, generation = prepared.problem, prepared.generation
        declared = problem.policy("GRADIENTS", GradientPolicy, GradientPolicy.REQUIRED)
        rank = list(Severity)
        candidate = prepared.candidate
        return Evaluation(
            harness_version=__version__,
            generation=generation.name,
            problem=problem.name,
            fingerprints=Fingerprints(
                generation=generation.sha256,
                candidate=None
                if candidate is None
                else hashlib.sha256(candidate.encode()).hexdigest(),
                problem=problem.sha256,
            ),
            verdict=verdict,
            stage=stage,
            device=self.device,
            policy=Policy(
                gradients=self._gradients or declared,
                tf32=problem.policy("TF32", Tf32Policy, Tf32Policy.FORBIDDEN),
                sandbox=sandbox,
            ),
            findings=tuple(
                sorted(_settled(verdict, prepared.findings), key=lambda f: rank.index(f.severity))
            ),
            gradients=gradients,
            trials=trials,
            speedups=speedups,
            stage_seconds=prepared.seconds,
            started_at=prepared.started_at,
        )


def grade(
    candidate: str | Path,
    problem: str,
    *,
    device: str = "auto",
    gradients: GradientPolicy | str | None = None,
    clocked: bool = True,
    settings: Settings | None = None,
) -> Evaluation:
    """Judge one generation and return its full record.

    Args:
        candidate: Path of a raw answer or a ``.py`` file.
        problem: Name of a shipped problem, or path of a problem file.
        device: ``auto``, ``cuda``, ``cuda:N`` or ``cpu``.
        gradients: ``required``, ``optional`` or ``off``; the problem's own by default.
        clocked: Whether to measure speedups of what passes.
        settings: Limits and places.

    Raises:
        UsageError: the file, problem or device cannot be used; the message says why.
        HarnessFault: something of ours failed.
    """
    generation = Generation.read(Path(candidate))
    policy = GradientPolicy(gradients) if gradients is not None else None
    file = find(problem)
    with Grader(device, settings=settings, gradients=policy, clocked=clocked) as grader:
        return grader.grade(generation, file)


def _settled(verdict: Verdict, findings: list[Finding]) -> list[Finding]:
    """A candidate that passed has disproved what screening expected of a compiler."""
    if verdict is not Verdict.PASSED:
        return findings
    return [
        f.model_copy(update={"severity": Severity.WARNING})
        if f.severity is Severity.ERROR and f.stage is Stage.SCREEN
        else f
        for f in findings
    ]


def _architectures(gpu: Gpu | None) -> str:
    """As torch wants it; a machine without a GPU compiles for Hopper."""
    major, minor = gpu.capability if gpu else (9, 0)
    return f"{major}.{minor}"


def _wire(problem: ProblemFile) -> Message:
    return {"name": problem.name, "path": str(problem.path), "source": problem.source}


_BUILD_ENDS = {
    Cause.TIMED_OUT: Verdict.TIMED_OUT,
    Cause.OUT_OF_MEMORY: Verdict.OUT_OF_MEMORY,
}


def _build_ended(failure: BuildFailure) -> tuple[Verdict, list[Finding]]:
    finding = Finding(
        rule="build.ended",
        severity=Severity.ERROR,
        stage=Stage.BUILD,
        message=f"The build ended before it was done: {failure}.",
        advice="Look for templates or macros that expand without end.",
    )
    return _BUILD_ENDS.get(failure.ended.cause, Verdict.BUILD_FAILED), [finding]
