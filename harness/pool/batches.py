"""What a caller asks of a batch, and what it gets.

Does not: judge or build (see ``pipeline``).
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from harness.devices import architectures_of, choose, usable_gpus
from harness.generation import Generation
from harness.grader import Grader, start_server
from harness.mapping import tasks
from harness.metrics import Summary, summarise
from harness.pool.events import Event, Kind, Watch
from harness.pool.pipeline import Pipeline
from harness.records import Evaluation, GradientPolicy, WorkPolicy
from harness.settings import Settings
from harness.store import Fault, Run
from harness.timings import timings


@dataclass(frozen=True)
class Batch:
    """What came of a batch."""

    evaluations: tuple[Evaluation, ...]
    """In the order of the generations' names."""
    faults: tuple[Fault, ...]
    """What could not be judged in this run."""
    summary: Summary
    """In numbers: verdicts, speedups, where the time went, devices that were lost."""


def batch(
    directory: str | Path,
    out: str | Path,
    *,
    problem: str | None = None,
    problems: Path | None = None,
    device: str = "auto",
    gradients: GradientPolicy | str | None = None,
    work: WorkPolicy | str = WorkPolicy.LENIENT,
    clocked: bool = True,
    settings: Settings | None = None,
    watch: Watch | None = None,
) -> Batch:
    """Judge every generation below a directory; resumes a run that is there.

    Args:
        directory: Where the generations lie (see ``mapping`` for how problems are told).
        out: The run directory: ``evaluations.jsonl``, ``faults.jsonl``, ``sessions.jsonl``,
            ``summary.json``.
        problem: The problem of all of them, where there is only one.
        problems: A directory of problem files in place of the shipped ones.
        device: ``auto``, ``emulated``, ``cpu``, ``cuda`` (every GPU), or ``cuda:N``.
        gradients: ``required``, ``optional`` or ``off``; each problem's own by default.
        work: What PyTorch may compute for a candidate: ``lenient`` or ``strict``.
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
                told(Event(Kind.RESUMED, task.name))
            else:
                open_tasks.append((task, generation))
        faults: list[Fault] = []
        if open_tasks:
            names = _device_names(device)
            gpus = [choose(name)[1] for name in names]
            server = start_server(limits, gpus)
            stack.callback(server.close)
            architectures = architectures_of(gpus)  # any device can judge what was built once
            graders = [
                stack.enter_context(
                    Grader(
                        name,
                        settings=limits,
                        gradients=policy,
                        work=WorkPolicy(work),
                        clocked=clocked,
                        hidden=(run.directory.resolve(),),
                        server=server,
                        architectures=architectures,
                    )
                )
                for name in names
            ]
            faults = Pipeline(graders, limits, run, told).work(open_tasks)
        by_name = {e.generation: e for e in run.evaluations}
        evaluations = tuple(by_name[t.name] for t in listed if t.name in by_name)
        summary = summarise(evaluations).model_copy(
            update={
                "devices_lost": tuple(lost for s in run.sessions for lost in s.devices_lost),
                "timings": timings(evaluations, run.sessions),
            }
        )
        (run.directory / "summary.json").write_text(summary.model_dump_json(indent=1) + "\n")
        return Batch(evaluations, tuple(faults), summary)


def _device_names(device: str) -> list[str]:
    """``auto`` and ``cuda`` mean every GPU that this process may use."""
    usable = usable_gpus()
    if device in ("auto", "cuda") and len(usable) > 1:
        return [f"cuda:{gpu.index}" for gpu in usable]
    return [device]
