"""Builds extensions: looks in the store, else runs a builder in its sandbox and keeps the result.

Does not: decide a verdict; a compiler's refusal is an ``Artifact`` that did not succeed.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from harness.build.artifacts import Artifact, ArtifactStore
from harness.build.fast.preparation import Preparation
from harness.build.spec import ExtensionSpec
from harness.devices import cxx, nvcc, torch_cuda, torch_version
from harness.emulation.preparation import Prepared
from harness.errors import BuildFault
from harness.preparing import version_of
from harness.records import Route
from harness.resources import answers
from harness.settings import Settings
from harness.supervisor import Child, ChildEnded, ForkServer, Limits, ending

_BUILD_VERSION = "2"
"""Part of every key; raise it when the way of building changes what comes out."""


class BuildFailure(Exception):
    """A build that ended without an artifact: its time or memory ran out."""

    def __init__(self, ended: ChildEnded) -> None:
        super().__init__(str(ended))
        self.ended = ended


@dataclass(frozen=True)
class Toolchain:
    """Everything besides the spec that decides what comes out of a build."""

    torch: str
    cuda: str
    compiler: str
    cuda_compiler: str
    architectures: str
    """As ``TORCH_CUDA_ARCH_LIST``; empty for the emulated device."""
    prepared: str = ""
    """What is prepared: the emulated device, or the headers of shortened builds."""

    def __str__(self) -> str:
        return "|".join((_BUILD_VERSION, *vars(self).values()))

    @classmethod
    def emulated(cls, prepared: Prepared) -> Toolchain:
        """This host's for the emulated device; the preparation's key holds the compiler."""
        return cls(torch_version(), "", "", "", "", prepared.key)

    @classmethod
    def here(cls, architectures: str, fast: Preparation | None) -> Toolchain:
        """This host's."""
        return cls(
            torch_version(),
            torch_cuda(),
            version_of(cxx()),
            version_of(nvcc()),
            architectures,
            "" if fast is None else fast.key,
        )


class Builder:
    """Builds for one host; safe to use from several threads."""

    def __init__(
        self,
        server: ForkServer,
        settings: Settings,
        *,
        architectures: str = "",
        prepared: Prepared | None = None,
        jobs: int = 3,
    ) -> None:
        """For ``architectures``, or for the emulated device that was ``prepared``."""
        self._server = server
        self._settings = settings
        self._jobs = jobs
        self._prepared = prepared
        self._fast: Preparation | None = None
        self._no_fast = "" if settings.fast_builds else "the settings say so"
        if settings.fast_builds and prepared is None:
            self._fast = Preparation(settings.prepared_dir, architectures)
        self._toolchain = (
            Toolchain.here(architectures, self._fast)
            if prepared is None
            else Toolchain.emulated(prepared)
        )
        self.store = ArtifactStore(settings.cache_dir)

    @property
    def links_cuda(self) -> bool:
        """Whether there are libraries to link CUDA extensions against."""
        return bool(torch_cuda()) or self._prepared is not None

    def find(self, spec: ExtensionSpec) -> Artifact | None:
        """The artifact of ``spec``, if it was built before."""
        return self.store.find(self._key(spec))

    def build(self, spec: ExtensionSpec) -> Artifact:
        """The artifact of ``spec``, from the store or built now.

        Raises:
            BuildFailure: the build ran out of time or memory, or its process died.
            BuildFault: a tool that it needs is missing here.
        """
        key = self._key(spec)
        if (kept := self.store.find(key)) is not None:
            return kept
        self._need_tools(spec)
        with self.store.building(key):
            if (kept := self.store.find(key)) is not None:
                return kept
            return self._build(spec, key)

    def _build(self, spec: ExtensionSpec, key: str) -> Artifact:
        link = self.links_cuda or not spec.is_cuda
        memory = self._settings.build_memory_bytes
        limits = replace(Limits.of(self._settings), memory_bytes=memory)
        begun = time.monotonic()
        fast = self._prepare(spec)
        preparing = time.monotonic() - begun
        readable = [Path(folder) for folder in (fast or {}).values() if folder]
        if self._prepared is not None:
            readable.append(self._prepared.directory)
        hidden = [self._settings.cache_dir, *answers()]
        begun = time.monotonic()
        with ending(
            Child.confined(self._server, "builder", limits, hidden=hidden, readable=readable)
        ) as child:
            request = {
                "spec": spec.model_dump_json(),
                "link": link,
                "jobs": self._jobs,
                "architectures": self._toolchain.architectures,
                "prepared": None if self._prepared is None else str(self._prepared.directory),
                "fast": fast,
            }
            try:
                done = child.request(request, self._settings.build_seconds)
            except ChildEnded as error:
                raise BuildFailure(error) from error
            fast_made = done.get("route") == Route.FAST
            why = str(done.get("reason") or self._no_fast or "nothing could be compiled")
            artifact = Artifact(
                key=key,
                succeeded=done.get("ok") is True,
                log=str(done.get("log", "")),
                seconds=time.monotonic() - begun,
                preparing_seconds=preparing,
                route=Route.FAST if fast_made else Route.STOCK,
                reason="" if fast_made else why[:500],
            )
            if not (artifact.succeeded and link and child.workdir):
                return self.store.add(artifact, None)
            try:
                return self.store.add(artifact, child.workdir / f"{spec.name}.so")
            except OSError as error:  # the box is hostile: it may leave a link, a pipe or nothing
                log = f"{artifact.log}\nthe build left no library: {error}"
                failed = artifact.model_copy(update={"succeeded": False, "log": log})
                return self.store.add(failed, None)

    def _key(self, spec: ExtensionSpec) -> str:
        return spec.key(str(self._toolchain))

    def _prepare(self, spec: ExtensionSpec) -> dict[str, str | None] | None:
        """The folders for a fast build, prepared now where they are missing."""
        if self._fast is None:
            return None
        try:
            return self._fast.folders(spec)
        except Exception as fault:  # whatever it is, the stock build knows nothing of it
            self._fast = None
            self._no_fast = f"nothing could be prepared: {fault}"[:500]
            return None

    def _need_tools(self, spec: ExtensionSpec) -> None:
        if spec.is_cuda and self._prepared is None and nvcc() is None:
            raise BuildFault("a CUDA extension needs nvcc, and there is none on PATH")
        compiler = cxx()
        if shutil.which(compiler) is None:
            raise BuildFault(f"an extension needs a C++ compiler, and {compiler!r} is not on PATH")
