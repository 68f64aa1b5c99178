"""The content-addressed store of built extensions.

An artifact is a folder named by the key of what it was built from, made
complete in a temporary folder and then renamed into place: readers see all of
it or nothing, and of two builders that race, one wins and the other's work is
dropped. Candidates never see the store; a worker gets one artifact as an open
descriptor.

Does not: build, or evict.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from harness.records import Record, Route


class Artifact(Record):
    """A finished build: either a library, or the compilers' words on why there is none."""

    key: str
    """Content address."""
    succeeded: bool
    """Whether everything compiled (and, on a machine that can, linked)."""
    log: str
    """What the compilers said."""
    seconds: float
    """How long the build took."""
    preparing_seconds: float = 0
    """Spent before that on preparing this installation, or on waiting for who does."""
    route: Route = Route.STOCK
    """Which way of building made it; never ``kept``."""
    reason: str = ""
    """Why it was built the stock way."""
    library: str | None = None
    """File name of the library within the artifact's folder; none where nothing was linked."""
    sha256: str | None = None
    """Of the library's bytes when they were copied from the builder."""


class ArtifactStore:
    """Artifacts below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root / "artifacts"

    def find(self, key: str) -> Artifact | None:
        """The artifact of ``key``, if it was built before."""
        try:
            return Artifact.model_validate_json((self._folder(key) / "artifact.json").read_text())
        except FileNotFoundError:
            return None

    def add(self, artifact: Artifact, library: Path | None) -> Artifact:
        """Keep a finished build; the library's bytes are copied, not linked."""
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._root, prefix=".new-") as scratch:
            new = Path(scratch) / "artifact"
            new.mkdir()
            if library is not None:
                kept = new / f"{artifact.key[:16]}.so"
                _copy_regular(library, kept)
                kept.chmod(0o444)
                facts = {"library": kept.name, "sha256": _digest(kept)}
                artifact = artifact.model_copy(update=facts)
            (new / "artifact.json").write_text(artifact.model_dump_json(indent=1))
            folder = self._folder(artifact.key)
            folder.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):  # somebody else was first: same key, same content
                new.rename(folder)
        return artifact

    def open(self, artifact: Artifact) -> int:
        """A read-only descriptor of the library.

        Raises:
            FileNotFoundError: nothing was linked, or the store was emptied meanwhile.
        """
        if artifact.library is None:
            raise FileNotFoundError(f"artifact {artifact.key} has no library")
        return os.open(self._folder(artifact.key) / artifact.library, os.O_RDONLY | os.O_CLOEXEC)

    def spoilt(self) -> list[Path]:
        """What lies in the store and is not what was put there."""
        found = []
        for path in self._root.glob("??/*/*"):
            if path.name == "artifact.json":
                continue
            made = Artifact.model_validate_json((path.parent / "artifact.json").read_text())
            if path.name != made.library or _digest(path) != made.sha256:
                found.append(path)
        return found

    @contextlib.contextmanager
    def building(self, key: str) -> Iterator[None]:
        """Hold the right to build ``key`` among all processes of this host."""
        locks = self._root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / key):
            yield

    def _folder(self, key: str) -> Path:
        return self._root / key[:2] / key


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _copy_regular(source: Path, target: Path) -> None:
    """Copy a file out of a hostile directory: never through a symbolic link, nor from a pipe.

    Raises:
        OSError: it is no regular file, or not there.
    """
    # Without O_NONBLOCK a FIFO in its place would be waited on for ever.
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as data, target.open("wb") as copy:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{source} is not a regular file")
        shutil.copyfileobj(data, copy)
