"""The build stage of a judgement: what a candidate builds, built or refused, and handed out.

``Workshop`` collects the specs of a candidate without a device, builds them, and later
serves a worker the artifacts that it asks for. Safe to use from several threads.

Does not: judge what was built.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from harness.build import Artifact, Builder, BuildFailure, ExtensionSpec, diagnostics, gaps
from harness.devices import nvcc
from harness.generation import Prepared
from harness.readers import Exceeded, Readers
from harness.records import Build, DeviceKind, Finding, Route, Severity, Stage, Verdict
from harness.settings import Settings
from harness.supervisor import Cause, Child, ChildEnded, ending
from harness.wire import Message

Refusal = tuple[Verdict, list[Finding]]
"""Why there is no artifact."""


class Unbuilt(Exception):
    """What a worker asks for is yet to be built, and its device has better things to do."""

    def __init__(self, spec: ExtensionSpec) -> None:
        super().__init__(f"the extension {spec.name!r} is yet to be built")
        self.spec = spec


@dataclass(frozen=True)
class Workshop:
    """Builds candidates for one kind of device."""

    builder: Builder
    kind: DeviceKind
    settings: Settings
    worker: Callable[[], Child]
    """Makes a worker without a device."""
    readers: Readers
    """What looks through sources for the emulated device."""

    def build(self, prepared: Prepared) -> Verdict | None:
        """Build everything that a candidate asks for; the verdict where that ends it."""
        refusal = self._build(self.collect(prepared), prepared)
        if refusal is None:
            return None
        prepared.findings = [*refusal[1], *prepared.findings]
        return refusal[0]

    def _build(self, specs: list[ExtensionSpec], prepared: Prepared) -> Refusal | None:
        without_gpu = self.kind is DeviceKind.CPU and any(s.is_cuda for s in specs)
        if without_gpu and nvcc() is None:
            return _no_gpu("There is no nvcc here either, so it was not built.")
        if without_gpu and not self.settings.build_without_gpu:
            return _no_gpu("The settings say not to build it either.")
        for spec in specs:
            if (refusal := self.make(spec, prepared)) is not None:
                return refusal
        return _no_gpu("It compiles; nothing was run.") if without_gpu else None

    def collect(self, prepared: Prepared) -> list[ExtensionSpec]:
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
        with ending(self.worker()) as child, contextlib.suppress(ChildEnded):
            child.request(message, self.settings.load_seconds, extension=take)
        return specs

    def make(self, spec: ExtensionSpec, prepared: Prepared) -> Refusal | None:
        """Build one extension; why not, where that fails."""
        candidate = prepared.candidate or ""
        emulated = self.kind is DeviceKind.EMULATED
        if emulated and (refusal := self._gaps(spec, candidate)) is not None:
            return refusal
        kept = self.builder.find(spec)
        try:
            artifact = kept or self.builder.build(spec)
        except BuildFailure as failure:
            return _ended(failure)
        prepared.builds.setdefault(artifact.key, _build(spec, artifact, kept=kept is not None))
        if artifact.succeeded:
            return None
        if emulated and (found := gaps.missing(spec, artifact.log, candidate)):
            return Verdict.UNSUPPORTED, found
        return Verdict.BUILD_FAILED, diagnostics.findings(spec, artifact.log, candidate)

    def _gaps(self, spec: ExtensionSpec, candidate: str) -> Refusal | None:
        """What the sources alone say against the emulated device."""
        message = {"op": "gaps", "text": candidate, "spec": spec.model_dump(mode="json")}
        limits = self.settings
        try:
            found = self.readers.ask(message, limits.text_seconds, limits.text_memory_bytes)
        except Exceeded as error:
            return Verdict.BUILD_FAILED, [_too_costly(error)]
        for name, verdict in (
            ("unsupported", Verdict.UNSUPPORTED),
            ("refused", Verdict.BUILD_FAILED),
        ):
            if found[name]:
                return verdict, [Finding.model_validate(f) for f in found[name]]
        return None

    def make_late(self, spec: ExtensionSpec, prepared: Prepared) -> None:
        """Build what was ``Unbuilt``; a refusal is kept for when it is asked for again."""
        if (refusal := self.make(spec, prepared)) is not None:
            prepared.refused[spec.model_dump_json()] = refusal

    def serve(
        self,
        wire: Message,
        prepared: Prepared,
        refusals: list[Refusal],
        patient: Callable[[], bool] = lambda: True,
    ) -> tuple[Message, list[int]]:
        """What a worker gets for a spec: the library's descriptor, or words (and a refusal).

        Raises:
            Unbuilt: it is not in the store, and nobody is ``patient`` enough to wait for it.
        """
        try:
            spec = ExtensionSpec.model_validate(wire)
        except ValidationError as error:
            return {"error": f"this is not an extension that can be built: {error}"}, []
        if spec.is_cuda and self.kind is DeviceKind.CPU:
            return {"error": "there is no GPU for CUDA sources"}, []
        known = prepared.refused.get(spec.model_dump_json())
        if known is None and self.builder.find(spec) is None and not patient():
            raise Unbuilt(spec)
        if (refusal := known or self.make(spec, prepared)) is not None:
            refusals.append(refusal)
            return {"error": f"Error building extension '{spec.name}'"}, []
        built = self.builder.build(spec)
        return {"artifact": built.key}, [self.builder.store.open(built)]


def _build(spec: ExtensionSpec, artifact: Artifact, *, kept: bool) -> Build:
    if kept:
        return Build(extension=spec.name, route=Route.KEPT, seconds=0)
    return Build(
        extension=spec.name,
        route=artifact.route,
        reason=artifact.reason,
        seconds=artifact.seconds,
        preparing_seconds=artifact.preparing_seconds,
    )


def _no_gpu(addition: str) -> Refusal:
    finding = Finding(
        rule="build.no_gpu",
        severity=Severity.ERROR,
        stage=Stage.BUILD,
        message=f"The candidate holds CUDA kernels, and the CPU runs none. {addition}",
        advice="Judge it with --device emulated, or on a machine with an NVIDIA GPU and a CUDA "
        "build of PyTorch.",
    )
    return Verdict.UNSUPPORTED, [finding]


def _too_costly(error: Exceeded) -> Finding:
    return Finding(
        rule="build.too_costly",
        severity=Severity.ERROR,
        stage=Stage.BUILD,
        message=f"Looking through the sources for what is not emulated {error}.",
        advice="Write less, and no thousands of functions or statements of one kind.",
    )


_ENDS = {
    Cause.TIMED_OUT: Verdict.TIMED_OUT,
    Cause.OUT_OF_MEMORY: Verdict.OUT_OF_MEMORY,
}


def _ended(failure: BuildFailure) -> Refusal:
    finding = Finding(
        rule="build.ended",
        severity=Severity.ERROR,
        stage=Stage.BUILD,
        message=f"The build ended before it was done: {failure}.",
        advice="Look for templates or macros that expand without end.",
    )
    return _ENDS.get(failure.ended.cause, Verdict.BUILD_FAILED), [finding]
