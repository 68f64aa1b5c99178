"""A worker made ahead of need, while the one before it is still being judged.

What it takes to make one (a fork, a sandbox, a CUDA context) is work on the device and
the cores, so it must be over before anything is clocked: ``settle`` waits for that.

Does not: know what a worker is for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import launches
from harness.errors import HarnessFault
from harness.settings import Settings
from harness.supervisor import Child, ChildEnded, ForkServer, Limits

_START_SECONDS = 120.0


@dataclass(frozen=True)
class Worker:
    """A worker that has its device."""

    child: Child
    launches: launches.LaunchTable | None = None
    """Where what it launches is noted (on a GPU)."""

    def end(self) -> None:
        """Kill it."""
        self.child.kill()
        if self.launches is not None:
            self.launches.close()


def maker(
    server: ForkServer, settings: Settings, visible: str | None, hidden: Sequence[str]
) -> Callable[[], Worker]:
    """What makes workers that have their device, the GPU called ``visible`` if there is one."""

    def make() -> Worker:
        child = Child.confined(
            server,
            "worker",
            Limits.of(settings),
            hidden=[Path(p) for p in hidden],
            gpu=visible is not None,
        )
        noted = visible is not None and launches.is_loaded()  # then it is in the worker too
        table = launches.LaunchTable(f"{child.workdir}/") if noted else None
        worker = Worker(child, table)
        message = {"op": "start", "cuda": visible, "threads": os.cpu_count() or 1}
        try:
            child.request(message, _START_SECONDS, fds=[] if table is None else [table.fd])
        except ChildEnded:
            worker.end()
            raise
        return worker

    return make


class Nursery:
    """Holds at most one worker that nobody has used yet."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make
        self._ready: Worker | None = None
        self._thread: threading.Thread | None = None

    def take(self) -> Worker:
        """A worker: the one that was made ahead, or a new one.

        Raises:
            HarnessFault, ChildEnded: none can be made.
        """
        self.settle()
        worker, self._ready = self._ready, None
        return worker or self._make()

    def expect(self) -> None:
        """Begin to make one, in the background."""
        if self._ready is None and self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def settle(self) -> None:
        """Wait until nothing is being made."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """End what nobody took."""
        self.settle()
        if self._ready is not None:
            self._ready.end()
            self._ready = None

    def _work(self) -> None:
        with contextlib.suppress(HarnessFault, ChildEnded):  # then it is made when it is needed
            self._ready = self._make()
