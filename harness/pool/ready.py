"""What is ready for a device, shared by the threads that build and the threads that judge.

Does not: decide which candidate comes next (see ``shelf``).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from harness.generation import Prepared
from harness.pool.shelf import Shelf


@dataclass
class Item:
    """A candidate that is ready, and what became of it so far."""

    prepared: Prepared
    since: float = field(default_factory=time.perf_counter)
    """When it became ready, or ready again."""
    failed_on: frozenset[int] = frozenset()
    """Healthy devices on which our side failed while it was judged."""
    tries: int = 0
    """How often our side failed on a healthy device while it was judged."""
    postponed: int = 0
    """How often it was taken off a device to build what it asked for only there."""
    losses: int = 0
    """How many devices fell ill while it was judged."""

    @property
    def name(self) -> str:
        """The generation's name."""
        return self.prepared.generation.name


class Ready:
    """A shelf with a lock, and an end."""

    def __init__(self) -> None:
        self._shelf: Shelf[Item] = Shelf()
        self._changed = threading.Condition()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the batch is over, or given up."""
        return self._closed

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def closes_within(self, seconds: float) -> bool:
        """Wait a while, or until it is closed; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, seconds)

    def join(self, device: int) -> None:
        """A device is there to judge."""
        with self._changed:
            self._shelf.join(device)
            self._changed.notify_all()

    def leave(self, device: int) -> None:
        """A device is there no longer; what only it could have had is for the others now."""
        with self._changed:
            self._shelf.leave(device)
            self._changed.notify_all()

    def put(self, item: Item) -> None:
        """A candidate is ready, or ready again."""
        item.since = time.perf_counter()
        with self._changed:
            self._shelf.put(_problem(item), item, item.failed_on)
            self._changed.notify_all()

    def take(self, device: int) -> Item | None:
        """Wait for the device's next candidate; ``None`` at the end."""
        with self._changed:
            while not self._closed:
                item = self._shelf.take(device)
                if item is not None:
                    item.prepared.device_wait += time.perf_counter() - item.since
                    return item
                self._changed.wait()
        return None


def _problem(item: Item) -> str:
    problem = item.prepared.problem
    return f"{problem.path}:{problem.sha256}"
