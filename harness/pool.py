"""A batch: every generation of a directory, prepared on the CPU cores while devices judge.

Builders work ahead of the devices; each device has one oracle and judges one
candidate at a time, so nothing else runs on it while it clocks. Every evaluation
is on disk as soon as it ends, and a batch that was killed goes on where it stopped.

Does not: print (see ``report``), or score a failure of ours.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from harness.devices import gpus, torch_cuda
from harness.errors import GenerationError, HarnessFault, ProblemError
from harness.generation import Generation, Prepared
from harness.grader import Grader
from harness.mapping import Task, tasks
from harness.metrics import Summary, summarise
from harness.records import Evaluation, GradientPolicy
from harness.settings import Settings
from harness.store import Fault, Run
from harness.supervisor import ForkServer

_TRIES = 2
"""How often a generation is judged before a failure of ours is given up on."""
_AHEAD = 4
"""How many prepared generations may wait for each device."""


@dataclass(frozen=True)
class Event:
    """Something that a progress display wants to know."""

    kind: str
    """``resumed``, ``prepared``, ``ended`` or ``fault``."""
    name: str
    evaluation: Evaluation | None = None
    text: str = ""


Watch = Callable[[Event], None]


@dataclass(frozen=True)
class Batch:
    """What came of a batch."""

    evaluations: tuple[Evaluation, ...]
    """In the order of the generations' names."""
    faults: tuple[Fault, ...]
    """What could not be judged in this run."""
    summary: Summary


def batch(
    directory: str | Path,
    out: str | Path,
    *,
    problem: str | None = None,
    problems: Path | None = None,
    device: str = "auto",
    gradients: GradientPolicy | str | None = None,
    clocked: bool = True,
    settings: Settings | None = None,
    watch: Watch | None = None,
) -> Batch:
    """Judge every generation below a directory; resumes a run that is there.

    Args:
        directory: Where the generations lie (see ``mapping`` for how problems are told).
        out: The run directory: ``evaluations.jsonl``, ``faults.jsonl``, ``summary.json``.
        problem: The problem of all of them, where there is only one.
        problems: A directory of problem files in place of the shipped ones.
        device: ``auto``, ``cpu``, ``cuda`` (every GPU), or ``cuda:N``.
        gradients: ``required``, ``optional`` or ``off``; each problem's own by default.
        clocked: Whether to measure speedups of what passes.
        settings: Limits and places.
        watch: Called with each event, in the calling thread.

    Raises:
        UsageError: what was asked for cannot be done; the message says why.
    """
    listed = tasks(Path(directory), problem, problems)
    policy = GradientPolicy(gradients) if gradients is not None else None
    limits = settings or Settings()
    told: Watch = watch or (lambda event: None)
    with closing(Run(Path(out))) as run, ExitStack() as stack:
        open_tasks = []
        for task in listed:
            generation = Generation.read(task.path, task.name)
            if run.done(task.name, task.problem.name, generation.sha256):
                told(Event("resumed", task.name))
            else:
                open_tasks.append((task, generation))
        faults: list[Fault] = []
        if open_tasks:
            server = ForkServer.start()
            stack.callback(server.close)
            graders = [
                stack.enter_context(
                    Grader(
                        name,
                        settings=limits,
                        gradients=policy,
                        clocked=clocked,
                        hidden=(run.directory.resolve(),),
                        server=server,
                    )
                )
                for name in _device_names(device)
            ]
            faults = _Pipeline(graders, limits, run, told).work(open_tasks)
        by_name = {e.generation: e for e in run.evaluations}
        evaluations = tuple(by_name[t.name] for t in listed if t.name in by_name)
        summary = summarise(evaluations)
        (run.directory / "summary.json").write_text(summary.model_dump_json(indent=1) + "\n")
        return Batch(evaluations, tuple(faults), summary)


def _device_names(device: str) -> list[str]:
    """``auto`` and ``cuda`` mean every GPU that there is."""
    usable = gpus() if torch_cuda() else ()
    if device in ("auto", "cuda") and len(usable) > 1:
        return [f"cuda:{gpu.index}" for gpu in usable]
    return [device]


class _Pipeline:
    """Builders, then devices, then the run's file."""

    def __init__(
        self, graders: Sequence[Grader], settings: Settings, run: Run, watch: Watch
    ) -> None:
        self._graders = graders
        self._settings = settings
        self._run = run
        self._watch = watch
        self._ready: queue.Queue[Prepared | None] = queue.Queue()
        self._events: queue.Queue[Event] = queue.Queue()
        self._room = threading.Semaphore(settings.build_jobs + _AHEAD * len(graders))

    def work(self, open_tasks: Sequence[tuple[Task, Generation]]) -> list[Fault]:
        """Judge all; returns what could not be judged."""
        problems = {g.name: t.problem.name for t, g in open_tasks}
        faults = []
        devices = [
            threading.Thread(target=self._judge_all, args=(grader,), daemon=True)
            for grader in self._graders
        ]
        for thread in devices:
            thread.start()
        with ThreadPoolExecutor(self._settings.build_jobs) as builders:
            futures: list[Future[None]] = [
                builders.submit(self._prepare, task, generation) for task, generation in open_tasks
            ]
            left = len(open_tasks)
            try:
                while left:
                    event = self._events.get()
                    if event.evaluation is not None:
                        self._run.add(event.evaluation)
                        left -= 1
                    elif event.kind == "fault":
                        fault = Fault(
                            generation=event.name, problem=problems[event.name], text=event.text
                        )
                        self._run.add_fault(fault)
                        faults.append(fault)
                        left -= 1
                    self._watch(event)
            except BaseException:  # interrupted: do not wait for builds that nobody wants
                for grader in self._graders:
                    grader.abandon()
                raise
            finally:
                for future in futures:
                    future.cancel()
                for _ in devices:
                    self._ready.put(None)
                    self._room.release()
        for thread in devices:
            thread.join()
        return faults

    def _prepare(self, task: Task, generation: Generation) -> None:
        """On a builder's thread: everything before the device."""
        self._room.acquire()
        try:
            prepared = self._graders[0].prepare(generation, task.problem)
        except (HarnessFault, ProblemError, GenerationError) as error:
            self._room.release()
            self._events.put(Event("fault", generation.name, text=str(error)))
            return
        except BaseException as error:
            self._room.release()
            text = f"{type(error).__name__}: {error}"
            self._events.put(Event("fault", generation.name, text=text))
            raise
        if prepared.evaluation is not None:
            self._room.release()
            self._events.put(Event("ended", generation.name, prepared.evaluation))
        else:
            self._events.put(Event("prepared", generation.name))
            self._ready.put(prepared)

    def _judge_all(self, grader: Grader) -> None:
        """On a device's thread: one candidate at a time."""
        while (prepared := self._ready.get()) is not None:
            self._room.release()
            self._events.put(self._judge(grader, prepared))

    def _judge(self, grader: Grader, prepared: Prepared) -> Event:
        name = prepared.generation.name
        findings = list(prepared.findings)
        text = ""
        for _ in range(_TRIES):
            prepared.findings = list(findings)
            try:
                return Event("ended", name, grader.judge(prepared))
            except ProblemError as error:
                return Event("fault", name, text=str(error))
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
        return Event("fault", name, text=text)
