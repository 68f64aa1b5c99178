"""The commands, thin: read arguments, call the harness, show what it says.

Does not: judge, or know how. Everything that takes long to import is imported
inside the command that needs it.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from harness.cli.progress import BatchProgress, StageProgress
from harness.errors import HarnessError, HarnessFault, UsageError
from harness.version import __version__

if TYPE_CHECKING:
    from harness.generation import Generation
    from harness.records import Evaluation, Speedup

PASSED, NOT_PASSED, USAGE, FAULT = 0, 1, 2, 3
INTERRUPTED = 130
"""As a shell says it."""

app = typer.Typer(
    name="kernel-harness",
    help="Grades LLM-written GPU kernels so that the grade can be believed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

ProblemOption = Annotated[
    str | None, typer.Option("--problem", "-p", help="Name of a problem, or path of its file.")
]
ProblemsOption = Annotated[
    Path | None, typer.Option("--problems", help="Directory of problem files.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", "-d", help="auto, emulated, cpu, cuda (every GPU) or cuda:N.")
]
GradientsOption = Annotated[
    str | None,
    typer.Option("--gradients", help="required, optional or off; the problem's own by default."),
]
WorkOption = Annotated[
    str,
    typer.Option("--work", help="What PyTorch may compute for a candidate: lenient or strict."),
]
SandboxOption = Annotated[
    str | None,
    typer.Option("--require-sandbox", help="Refuse to run below limits, landlock or namespaces."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]
TimingsOption = Annotated[
    bool, typer.Option("--timings", help="Show where the time went, step by step.")
]
ClockOption = Annotated[bool, typer.Option("--clock/--no-clock", help="Measure speedups.")]


@app.command()
def grade(
    file: Annotated[Path, typer.Argument(help="A raw model answer, or a candidate .py file.")],
    problem: ProblemOption = None,
    problems: ProblemsOption = None,
    device: DeviceOption = "auto",
    gradients: GradientsOption = None,
    work: WorkOption = "lenient",
    sandbox: SandboxOption = None,
    clock: ClockOption = True,
    timings: TimingsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge one generation: one verdict, every finding, and what to do next."""
    from harness.readers import Readers

    readers = Readers()
    readers.warm()  # while the rest is imported
    from harness import report, timetable
    from harness.generation import Generation
    from harness.grader import Grader
    from harness.mapping import problem_of
    from harness.problems import find
    from harness.records import Verdict
    from harness.store import BaselineStore

    generation = Generation.read(file)
    task = find(problem, problems) if problem else problem_of(file, problems)
    terms = {"gradients": _gradients(gradients), "work": _work(work)}
    _announce(device)
    with (
        StageProgress(_err, enabled=not as_json) as progress,
        Grader(
            device,
            settings=_settings(sandbox),
            **terms,
            clocked=clock,
            readers=readers,
            say=_say,
        ) as grader,
    ):
        evaluation = grader.grade(generation, task, progress.stage)
        stored = BaselineStore(grader.settings.cache_dir).find(task.sha256, grader.device)
    if as_json:
        _print_json(evaluation.model_dump(mode="json"))
    else:
        _out.print(report.evaluation(evaluation, _candidate(generation, evaluation), stored))
        if timings:
            _out.print()
            _out.print(timetable.of_evaluation(evaluation))
    raise typer.Exit(PASSED if evaluation.verdict is Verdict.PASSED else NOT_PASSED)


@app.command()
def baseline(
    problem: Annotated[str, typer.Argument(help="Name of a problem, or path of its file.")],
    problems: ProblemsOption = None,
    solution: Annotated[
        Path | None, typer.Option(help="A solution in place of the vetted one.")
    ] = None,
    device: DeviceOption = "auto",
    compiled: Annotated[
        bool, typer.Option("--compiled/--no-compiled", help="Clock torch.compile too.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Clock the reference (eager, torch.compile) and the vetted solution on this device."""
    from harness import report
    from harness.grader import Grader
    from harness.problems import find
    from harness.resources import bundled
    from harness.store import Baseline, BaselineStore

    file = find(problem, problems)
    vetted = solution or bundled("solutions") / f"{file.name}.py"
    text = vetted.read_text() if vetted.is_file() else None
    if solution is not None and text is None:
        raise UsageError(f"{solution}: there is no such solution file")
    wanted = ("eager", *(("compiled",) if compiled else ()), "solution")
    with (
        StageProgress(_err, enabled=not as_json) as progress,
        Grader(device, say=_say) as grader,
    ):
        progress.say("clocking")
        speedups, failures = grader.baseline(file, text, wanted)
        record = Baseline(
            problem=file.name,
            problem_sha256=file.sha256,
            device=grader.device,
            harness_version=__version__,
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            speedups=speedups,
            failures=failures,
        )
        path = BaselineStore(grader.settings.cache_dir).save(record)
    if as_json:
        _print_json(record.model_dump(mode="json"))
    else:
        _out.print(report.baseline(record))
        _out.print(f"kept in {path}", style="dim")


@app.command()
def calibrate(
    problems: Annotated[
        list[str] | None, typer.Argument(help="Problems; by default every shipped one.")
    ] = None,
    runs: Annotated[int, typer.Option(min=2, help="Pairs of processes for each problem.")] = 10,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Clock each reference against itself: what this machine's clock is worth."""
    from harness import report
    from harness.calibration import calibration
    from harness.grader import Grader
    from harness.problems import ProblemFile, find, listing
    from harness.store import CalibrationStore

    shipped = [f for f in listing() if isinstance(f, ProblemFile)]
    files = [find(name) for name in problems] if problems else shipped
    measured: dict[str, list[tuple[Speedup, ...]]] = {}
    with (
        StageProgress(_err, enabled=not as_json) as progress,
        Grader(device, say=_say) as grader,
    ):
        for file in files:
            measured[file.name] = []
            for run in range(runs):
                progress.say(f"{file.name}, {run + 1} of {runs}")
                speedups, failures = grader.baseline(file, None, ("eager",))
                if failures:
                    raise HarnessFault(f"{file.name}: not clocked: {failures['eager']}")
                measured[file.name].append(speedups["eager"])
        record = calibration(grader.device, measured)
        path = CalibrationStore(grader.settings.cache_dir).save(record)
    if as_json:
        _print_json(record.model_dump(mode="json"))
    else:
        _out.print(report.calibration(record))
        _out.print(f"kept in {path}", style="dim")


@app.command()
def admit(
    problem: Annotated[str, typer.Argument(help="Name of a problem, or path of its file.")],
    problems: ProblemsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Hold lazy and imprecise answers against a problem: whether its score can be trusted."""
    from harness import report
    from harness.grader import Grader
    from harness.problems import find

    file = find(problem, problems)
    with StageProgress(_err, enabled=not as_json) as progress, Grader(device, say=_say) as grader:
        progress.say("holding dummies against the problem")
        record = grader.admit(file)
    if as_json:
        _print_json(record.model_dump(mode="json"))
    else:
        _out.print(report.admission(record))
    raise typer.Exit(PASSED if record.trusted else NOT_PASSED)


@app.command()
def batch(
    directory: Annotated[Path, typer.Argument(help="Where the generations lie.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run directory; resumed if there.")],
    problem: ProblemOption = None,
    problems: ProblemsOption = None,
    device: DeviceOption = "auto",
    gradients: GradientsOption = None,
    work: WorkOption = "lenient",
    sandbox: SandboxOption = None,
    clock: ClockOption = True,
    timings: TimingsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge every generation below a directory; goes on where a killed run stopped."""
    from harness import mapping, report, timetable
    from harness.pool import batch as run_batch

    total = len(mapping.tasks(directory, problem, problems))
    _announce(device)
    try:
        with BatchProgress(_err, total, enabled=not as_json) as progress:
            done = run_batch(
                directory,
                out,
                problem=problem,
                problems=problems,
                device=device,
                gradients=_gradients(gradients),
                work=_work(work),
                settings=_settings(sandbox),
                clocked=clock,
                watch=progress.event,
            )
    except KeyboardInterrupt:
        _say(f"interrupted; what was judged is in {out}, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        _print_json(done.summary.model_dump(mode="json"))
    else:
        _out.print(report.listing(done.evaluations))
        _out.print()
        _out.print(report.summary(done.summary, done.faults))
        if timings and done.summary.timings is not None:
            _out.print()
            _out.print(timetable.of_run(done.summary.timings))
        _out.print(f"records in {out}", style="dim")
    raise typer.Exit(FAULT if done.faults else PASSED)


@app.command()
def prompt(
    problem: Annotated[str, typer.Argument(help="Name of a problem, or path of its file.")],
    problems: ProblemsOption = None,
    device: DeviceOption = "auto",
    example: Annotated[bool, typer.Option("--example/--no-example")] = True,
    feedback: Annotated[
        Path | None,
        typer.Option(help="A generation that was judged: render the turn that answers it."),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Its evaluation, as `grade --json` printed it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Render the task of a problem for a model, or the feedback on an answer."""
    from harness.devices import choose
    from harness.generation import Generation
    from harness.problems import find
    from harness.prompting import hardware_of, render_feedback, render_task
    from harness.screening import RULES

    if (feedback is None) != (evaluation is None):
        raise UsageError("--feedback and --evaluation go together: the answer, and its record")
    if feedback is not None and evaluation is not None:
        record = _evaluation(evaluation)
        answer = _candidate(Generation.read(feedback), record)
        text = render_feedback(record, answer or "")
    else:
        file = find(problem, problems)
        hardware = hardware_of(choose(device)[0])
        text = render_task(file.name, file.source, RULES, example=example, hardware=hardware)
    if as_json:
        _print_json({"prompt": text})
    else:
        sys.stdout.write(text)


@app.command()
def problems(
    directory: Annotated[Path | None, typer.Argument(help="A directory of problem files.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the problems that there are, and what is wrong with broken ones."""
    from rich.table import Table

    from harness.problems import ProblemFile, listing

    found = listing(directory)
    good = [p for p in found if isinstance(p, ProblemFile)]
    bad = [str(p) for p in found if not isinstance(p, ProblemFile)]
    if as_json:
        rows = [
            {"name": p.name, "path": str(p.path), "cases": p.cases, "summary": p.summary}
            for p in good
        ]
        _print_json({"problems": rows, "broken": bad})
    else:
        table = Table(box=None, pad_edge=False)
        table.add_column("problem", style="bold")
        table.add_column("cases", justify="right")
        table.add_column("TF32")
        table.add_column("what it is", overflow="fold")
        for p in good:
            table.add_row(p.name, str(p.cases + 1), p.declared("TF32", "forbidden"), p.summary)
        _out.print(table)
        for text in bad:
            _out.print(f"broken: {text}", style="red", highlight=False)
    raise typer.Exit(USAGE if bad else PASSED)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check this machine: devices, compilers, sandbox, caches, and how to improve each."""
    from harness.cli.doctor import examine

    checks = examine()
    if as_json:
        _print_json({"checks": [c._asdict() for c in checks]})
    else:
        for check in checks:
            sign, colour = ("✓", "green") if check.good else ("!", "yellow")
            _out.print(f"[{colour}]{sign}[/] [bold]{check.what}[/]  {check.says}", highlight=False)
            if check.advice:
                _out.print(f"    → {check.advice}", style="green", highlight=False)
    raise typer.Exit(PASSED)


def main() -> None:
    """Entry point: runs a command and turns errors into one sentence and an exit code."""
    try:
        app()
    except UsageError as error:
        _err.print(f"kernel-harness: {error}", style="red", highlight=False, soft_wrap=True)
        sys.exit(USAGE)
    except HarnessFault as error:
        _err.print(
            f"kernel-harness: harness fault, nothing was scored: {error}",
            style="red",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(FAULT)
    except HarnessError as error:
        _err.print(f"kernel-harness: {error}", style="red", highlight=False, soft_wrap=True)
        sys.exit(FAULT)


def _announce(device: str) -> None:
    """Say why the first use of a device takes long."""
    from harness.build.fast.preparation import Preparation
    from harness.devices import architectures_of, choose
    from harness.emulation.preparation import find
    from harness.records import DeviceKind
    from harness.settings import Settings

    settings = Settings()
    chosen, gpu = choose(device)
    emulated = chosen.kind is DeviceKind.EMULATED
    if emulated and find(settings.prepared_dir) is None:
        _err.print(
            "preparing the emulated device, once for this installation: about a minute",
            style="dim",
        )
    fast = not emulated and settings.fast_builds
    if fast and not Preparation(settings.prepared_dir, architectures_of((gpu,))).found():
        _err.print(
            "the first build prepares torch's headers, once for this installation: "
            "about half a minute",
            style="dim",
        )


def _say(text: str) -> None:
    """Something of the host's is waited for."""
    _err.print(text, style="dim", highlight=False)


def _gradients(chosen: str | None) -> Any:
    from harness.records import GradientPolicy

    return None if chosen is None else _choice("--gradients", chosen, GradientPolicy)


def _work(chosen: str) -> Any:
    from harness.records import WorkPolicy

    return _choice("--work", chosen, WorkPolicy)


def _settings(sandbox: str | None) -> Any:
    from harness.sandbox import Level
    from harness.settings import Settings

    if sandbox is None:
        return Settings()
    return Settings(require_sandbox=_choice("--require-sandbox", sandbox, Level).value)


def _choice(option: str, chosen: str, kind: type[StrEnum]) -> StrEnum:
    try:
        return kind(chosen)
    except ValueError as error:
        raise UsageError(f"{option} is {chosen!r}; choose {', '.join(kind)}") from error


def _evaluation(path: Path) -> Evaluation:
    from pydantic import ValidationError

    from harness.records import Evaluation

    try:
        return Evaluation.model_validate_json(path.read_text())
    except (OSError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"{path}: this is not an evaluation, as `grade --json` prints one: {first}"
        ) from error


def _candidate(generation: Generation, evaluation: Evaluation) -> str | None:
    """The code that was judged; none where there is none, or the answer took too much to read."""
    from harness.extract import extract
    from harness.records import Stage

    early = evaluation.stage is Stage.EXTRACT
    return None if early else extract(generation.text).candidate


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
