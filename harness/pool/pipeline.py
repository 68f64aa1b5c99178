"""The threads of a batch: some read texts, several build, one for each device judges.

A text is read (extracted and screened) in milliseconds and a build takes a minute, so all
texts are read first come, without waiting for a builder, and what is rejected has its verdict
at once. A hostile one can take seconds, so more than one thread reads. Builders work ahead of
the devices without limit: what is ready is a few kilobytes.

Does not: decide what is asked for (see ``batches``), or which candidate comes next.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from harness.building import Unbuilt
from harness.errors import GenerationError, HarnessFault, ProblemError
from harness.generation import Generation, Prepared
from harness.grader import Grader
from harness.mapping import Task
from harness.pool.events import Event, Kind, Watch
from harness.pool.ready import Item, Ready
from harness.pool.shelf import spread
from harness.pool.station import Station
from harness.settings import Settings
from harness.store import Fault, Run
from harness.timings import Session

Work = tuple[Task, Generation]

_MOST_READERS = 4
"""Each has a process of some 60 MB."""
_END_SECONDS = 5.0
"""How long a device's thread may take to notice the end; it has nothing left to do."""


class Pipeline:
    """Text threads, builders, the devices' stations, and the run's files."""

    def __init__(
        self, graders: Sequence[Grader], settings: Settings, run: Run, watch: Watch
    ) -> None:
        """For graders that are open, each of another device."""
        self._graders = graders
        self._run = run
        self._watch = watch
        self._events: queue.Queue[Event] = queue.Queue()
        self._ready = Ready()
        self._stations = [
            Station(number, grader, self._ready, self._events.put, self._postpone)
            for number, grader in enumerate(graders)
        ]
        self._texts = ThreadPoolExecutor(min(_MOST_READERS, settings.build_jobs))
        self._builders = ThreadPoolExecutor(settings.build_jobs)
        self._open: dict[str, str] = {}
        self._faults: list[Fault] = []
        self._ended = 0
        self._left = len(self._stations)

    def work(self, open_tasks: Sequence[Work]) -> list[Fault]:
        """Judge all, and add to the run what became of it; returns what could not be judged."""
        started, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        self._open = {g.name: t.problem.name for t, g in open_tasks}
        threads = [threading.Thread(target=s.run, daemon=True) for s in self._stations]
        for thread in threads:
            thread.start()
        try:
            for task, generation in spread(open_tasks, _problem, len(self._stations)):
                self._texts.submit(self._guarded, self._read, generation.name, task, generation)
            while self._open:
                self._take(self._events.get())
                if not self._left:
                    self._give_up()
        except BaseException:  # interrupted: do not wait for builds that nobody wants
            self._abandon()
            raise
        finally:
            self._ready.close()
            self._texts.shutdown(cancel_futures=True)  # first, as it feeds the builders
            self._builders.shutdown(cancel_futures=True)
            wall = time.perf_counter() - begun
            for thread in threads:
                thread.join(_END_SECONDS)
            self._run.add_session(self._session(started, wall))
        return self._faults

    # On the caller's thread

    def _take(self, event: Event) -> None:
        """Note what became of a generation, and tell whoever watches."""
        if event.kind is Kind.ENDED and event.evaluation is not None:
            self._run.add(event.evaluation)
            self._ended += 1
            del self._open[event.name]
        elif event.kind is Kind.FAULT:
            problem = self._open.pop(event.name)
            fault = Fault(generation=event.name, problem=problem, text=event.text)
            self._run.add_fault(fault)
            self._faults.append(fault)
        elif event.kind is Kind.DEVICE_LOST:
            self._left -= 1
        self._watch(event)

    def _give_up(self) -> None:
        """No device is left; what has no verdict yet gets none in this process."""
        lost = [station.lost for station in self._stations if station.lost is not None]
        reasons = "; ".join(f"{one.device}: {one.reason.splitlines()[0]}" for one in lost)
        text = f"no device is left to judge it ({reasons}); it is tried again on resume"
        for name in list(self._open):
            self._take(Event(Kind.FAULT, name, text=text))
        self._abandon()

    def _abandon(self) -> None:
        self._ready.close()
        for grader in self._graders:
            grader.abandon()

    def _session(self, started: str, wall: float) -> Session:
        return Session(
            started_at=started,
            wall_seconds=wall,
            ended=self._ended,
            devices=tuple(station.use(wall) for station in self._stations),
            devices_lost=tuple(s.lost for s in self._stations if s.lost is not None),
        )

    # On the text threads and the builders' threads

    def _guarded(self, step: Callable[..., None], name: str, *arguments: object) -> None:
        """A step whose every failure is told, so that nobody waits for this generation."""
        try:
            if not self._ready.closed:
                step(*arguments)
        except (HarnessFault, ProblemError, GenerationError) as error:
            self._events.put(Event(Kind.FAULT, name, text=str(error)))
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
            self._events.put(Event(Kind.FAULT, name, text=text))
            raise

    def _read(self, task: Task, generation: Generation) -> None:
        prepared = self._graders[0].read(generation, task.problem)
        if prepared.evaluation is not None:
            self._events.put(Event(Kind.ENDED, generation.name, prepared.evaluation))
            return
        read = time.perf_counter()
        self._builders.submit(self._guarded, self._build, generation.name, prepared, read)

    def _build(self, prepared: Prepared, read: float) -> None:
        prepared.builder_wait = time.perf_counter() - read
        name = prepared.generation.name
        self._graders[0].build(prepared)
        if prepared.evaluation is not None:
            self._events.put(Event(Kind.ENDED, name, prepared.evaluation))
        else:
            self._events.put(Event(Kind.PREPARED, name))
            self._ready.put(Item(prepared))

    def _postpone(self, item: Item, late: Unbuilt) -> None:
        """On a device's thread: have a builder make what the candidate asks for, and go on."""
        if not self._ready.closed:
            left = time.perf_counter()
            self._builders.submit(self._guarded, self._build_late, item.name, item, late, left)

    def _build_late(self, item: Item, late: Unbuilt, left: float) -> None:
        item.prepared.builder_wait += time.perf_counter() - left
        self._graders[0].build_late(item.prepared, late)
        self._ready.put(item)


def _problem(work: Work) -> str:
    return str(work[0].problem.path)
