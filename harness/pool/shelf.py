"""Which candidate comes next: the order of preparation, and what a free device judges.

An oracle keeps one problem's references at a time, and to load others takes seconds. So
problems are spread over the devices, and a device stays with the problem it has loaded
while there are candidates of it; but it never stands idle while something is ready for it.

Pure: no threads, no clock, no processes. Does not: know what a candidate is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """What is ready, by problem, and what each device has loaded."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[T, frozenset[int]]]] = {}
        self._loaded: dict[int, str | None] = {}

    def __len__(self) -> int:
        """How much is ready."""
        return sum(map(len, self._waiting.values()))

    def join(self, device: int) -> None:
        """A device is there to judge."""
        self._loaded[device] = None

    def leave(self, device: int) -> None:
        """A device is there no longer."""
        self._loaded.pop(device, None)

    def put(self, problem: str, item: T, shunned: Collection[int] = ()) -> None:
        """Something is ready. ``shunned`` devices get it only if there are no others."""
        self._waiting.setdefault(problem, deque()).append((item, frozenset(shunned)))

    def take(self, device: int) -> T | None:
        """What a device that has joined judges next; ``None`` if nothing is ready for it.

        The oldest of the problem that it has loaded; else of the problem with the most ready
        for each device that has it loaded already, which is one that no device has, if any.
        """
        problems = [p for p in self._waiting if self._first(p, device) is not None]
        if not problems:
            return None
        loaded = self._loaded[device]
        chosen = loaded if loaded in problems else max(problems, key=self._need)
        self._loaded[device] = chosen
        queue = self._waiting[chosen]
        index = self._first(chosen, device) or 0
        item, _ = queue[index]
        del queue[index]
        if not queue:
            del self._waiting[chosen]
        return item

    def _first(self, problem: str, device: int) -> int | None:
        """Where the oldest of a problem's candidates stands that the device may have."""
        for index, (_, shunned) in enumerate(self._waiting[problem]):
            if device not in shunned or shunned.issuperset(self._loaded):
                return index
        return None

    def _need(self, problem: str) -> tuple[bool, float]:
        devices = sum(loaded == problem for loaded in self._loaded.values())
        return devices == 0, len(self._waiting[problem]) / max(1, devices)


def spread(tasks: Sequence[T], problem: Callable[[T], str], devices: int) -> list[T]:
    """The order in which to prepare tasks, so that each device soon has a problem of its own.

    Tasks of a problem stay together, in their order; problems are dealt to as many lanes as
    there are devices, the largest first to the shortest lane, and the lanes take turns.
    """
    groups: dict[str, list[T]] = {}
    for task in tasks:
        groups.setdefault(problem(task), []).append(task)
    lanes: list[list[T]] = [[] for _ in range(max(1, devices))]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(lanes, key=len).extend(group)
    longest = max(map(len, lanes))
    return [lane[turn] for turn in range(longest) for lane in lanes if turn < len(lane)]
