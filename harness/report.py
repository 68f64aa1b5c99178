"""Evaluations, summaries and baselines as a person wants to read them in a terminal.

Takes records and gives rich's renderables; holds no state.

Does not: print, or compute a figure that a record does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from harness.admission import Admission
from harness.calibration import Calibration
from harness.metrics import Summary, score, score_mode
from harness.records import (
    Build,
    Device,
    DeviceKind,
    Evaluation,
    Finding,
    Gradients,
    Mode,
    Place,
    Route,
    Severity,
    Speedup,
    Stage,
    TensorRole,
    Verdict,
    harmless,
)
from harness.store import Baseline, Fault

_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_SIGNS = {Severity.ERROR: "✗", Severity.WARNING: "!", Severity.NOTE: "·"}
_CONTEXT = 1
"""Lines of the candidate shown before and after a place."""


def evaluation(
    record: Evaluation, candidate: str | None, baseline: Baseline | None = None
) -> RenderableType:
    """The stage-by-stage account of one evaluation, with code frames for its findings."""
    parts: list[RenderableType] = [_headline(record), _stages(record)]
    for found in record.findings:
        parts.append(finding(found, candidate))
    if record.speedups:
        parts.append(speedups(record.speedups))
        parts += _against_solution(record, baseline)
    if record.builds:
        parts.append(Text("; ".join(map(_built, record.builds)), "dim"))
    if record.kernels:
        parts.append(Text(_kernels(record), "dim"))
    if record.launches:
        parts.append(Text(f"launched in one forward and backward: {_launches(record)}", "dim"))
    parts.append(_terms(record))
    return Group(*parts)


def finding(found: Finding, candidate: str | None) -> RenderableType:
    """One finding: what, where, and what to do next."""
    head = Text()
    head.append(f"{_SIGNS[found.severity]} {found.rule} ", _COLOURS[found.severity])
    if found.place is not None:
        head.append(f"line {found.place.line} ", "dim")
    head.append(found.message)
    parts: list[RenderableType] = [head]
    if found.place is not None and candidate is not None:
        parts.append(Padding(_frame(found.place, candidate), (0, 0, 0, 4)))
    if found.advice:
        parts.append(Padding(Text(f"→ {found.advice}", "green"), (0, 0, 0, 2)))
    if found.detail and found.severity is Severity.ERROR and found.place is None:
        tail = "\n".join(found.detail.rstrip().splitlines()[-12:])
        parts.append(Padding(Text(tail, "dim"), (0, 0, 0, 4)))
    return Group(*parts)


def speedups(measured: Sequence[Speedup]) -> Table:
    """Latencies and speedups with their intervals."""
    table = Table(box=None, pad_edge=False)
    table.add_column("clocked")
    for name in ("reference ms", "candidate ms", "speedup", "95 % interval", "pairs", "rate"):
        table.add_column(name, justify="right")
    for one in measured:
        table.add_row(
            one.mode.replace("_", " "),
            f"{one.reference.milliseconds:.4g}",
            f"{one.candidate.milliseconds:.4g}",
            Text(f"{one.speedup:.3f}x", "bold green" if one.low > 1 else "bold"),
            f"{one.low:.3f} – {one.high:.3f}",
            str(one.pairs),
            _rate(one),
        )
    return table


def _rate(one: Speedup) -> str:
    """What the candidate reaches of the work that the problem states for a forward."""
    seconds = one.candidate.milliseconds * 1e-3
    parts = []
    if one.flops:
        parts.append(f"{one.flops / seconds / 1e12:.3g} TFLOP/s")
    if one.bytes_moved:
        parts.append(f"{one.bytes_moved / seconds / 1e9:.3g} GB/s")
    return ", ".join(parts)


def _built(build: Build) -> str:
    if build.route is Route.KEPT:
        return f"{build.extension} had been built before"
    way = f"{build.route}: {build.reason}" if build.reason else str(build.route)
    once = f", once torch's headers were prepared in {build.preparing_seconds:.0f} s"
    after = once if build.preparing_seconds >= 1 else ""
    return f"built {build.extension} in {build.seconds:.1f} s ({way}){after}"


def summary(record: Summary, faults: Sequence[Fault] = ()) -> RenderableType:
    """A batch in numbers: verdicts, fast_p, pass@k and geometric means, by kind of device."""
    parts: list[RenderableType] = []
    for device in record.devices:
        head = f"{device.generations} generations of {device.problems} problems on {device.kind}"
        parts.append(Text(head, "bold"))
        parts.append(Text("  " + ", ".join(f"{v} {n}" for v, n in device.verdicts.items())))
        if device.pass_at:
            shares = ", ".join(f"pass@{k} {v:.3f}" for k, v in device.pass_at.items())
            parts.append(Text(f"  {shares}"))
        for speed in device.speeds:
            kind = " (forward only)" if speed.forward_only else ""
            mean = speed.geometric_mean
            parts.append(
                Text(
                    f"  {speed.mode.replace('_', ' ')}{kind}: fast_0 {speed.fast_0:.3f}, "
                    f"fast_1 {speed.fast_1:.3f}, fast_1.5 {speed.fast_1_5:.3f}, "
                    f"fast_2 {speed.fast_2:.3f}; geometric mean "
                    f"{'–' if mean is None else f'{mean:.3f}x'} of {speed.clocked}"
                )
            )
    for lost in record.devices_lost:
        parts.append(Text(f"{lost.device} was taken out: {lost.reason.splitlines()[0]}", "red"))
    if faults:
        parts.append(Text(f"{len(faults)} harness faults, not scored:", "bold red"))
        parts += [Text(f"  {f.generation}: {f.text.splitlines()[0]}") for f in faults]
    return Group(*parts)


def listing(records: Iterable[Evaluation]) -> Table:
    """One line per evaluation: name, verdict, speedup, first finding."""
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("generation", no_wrap=True, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("speedup", justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True, overflow="ellipsis", ratio=1)
    for record in records:
        value = score(record)
        table.add_row(
            record.generation,
            verdict(record.verdict),
            "" if value is None else f"{value:.2f}x {_short(score_mode(record))}",
            _why(record),
        )
    return table


def baseline(record: Baseline) -> RenderableType:
    """What a device makes of a problem."""
    parts: list[RenderableType] = [
        Text.assemble((record.problem, "bold"), " on ", device_line(record.device))
    ]
    names = {
        "eager": "reference against itself (A/A)",
        "compiled": "torch.compile against eager",
        "solution": "the vetted solution against eager",
    }
    for name, measured in record.speedups.items():
        parts.append(Text(names.get(name, name), "italic"))
        parts.append(Padding(speedups(measured), (0, 0, 0, 2)))
    for name, text in record.failures.items():
        parts.append(Text(f"{names.get(name, name)}: not clocked: {text}", "yellow"))
    return Group(*parts)


def admission(record: Admission) -> RenderableType:
    """What a problem makes of each dummy, and whether it can be trusted."""
    table = Table(box=None, pad_edge=False)
    for name in ("dummy", "must", "does"):
        table.add_column(name)
    table.add_column("trials passed", justify="right")
    for dummy in record.dummies:
        does = Text("as it must", "green") if dummy.as_it_must else Text("not", "bold red")
        if not dummy.trials:
            does = Text("does not apply", "dim")
        table.add_row(dummy.name, dummy.must, does, f"{dummy.passed} of {dummy.trials}")
    wrong = [d.name for d in record.dummies if not d.as_it_must]
    said = Text("trusted", "bold green") if record.trusted else Text("not trusted", "bold red")
    said.append(f"  {record.problem}", "bold")
    if wrong:
        said.append(f": {', '.join(wrong)}", "red")
    return Group(said, table, Text(f"on {device_line(record.device)}", "dim"))


def calibration(record: Calibration) -> RenderableType:
    """How far equal modules are apart on a machine, and what is allowed for it."""
    table = Table(box=None, pad_edge=False)
    for name in ("problem", "mode"):
        table.add_column(name)
    for name in ("ms", "runs", "median |speedup - 1|", "95 % within", "intervals that hold 1"):
        table.add_column(name, justify="right")
    for one in record.against_itself:
        runs = len(one.speedups)
        table.add_row(
            one.problem,
            one.mode.replace("_", " "),
            f"{one.milliseconds:.4g}",
            str(runs),
            f"{one.median_error:.2%}",
            f"{one.error_95:.2%}",
            f"{one.covered} of {runs}",
        )
    allowed = record.allowances
    text = (
        f"Every interval allows for {allowed.systematic:.2%} and {1e3 * allowed.launch_ms:.2g} µs "
        f"a pass; the two clocks of a call may differ by {1e3 * allowed.done_ms:.3g} µs."
    )
    return Group(Text(device_line(record.device)), table, Text(text, "dim"))


def verdict(value: Verdict) -> Text:
    """A verdict in its colour."""
    colour = {Verdict.PASSED: "bold green", Verdict.UNSUPPORTED: "bold yellow"}
    return Text(value, colour.get(value, "bold red"))


def device_line(device: Device) -> str:
    """A device in one line."""
    parts = [device.name, device.architecture, f"torch {device.torch}"]
    parts += [f"CUDA {device.cuda}"] if device.cuda else []
    parts += [f"driver {device.driver}"] if device.driver else []
    return ", ".join(p for p in parts if p)


def _headline(record: Evaluation) -> Text:
    head = Text()
    head.append(verdict(record.verdict))
    head.append(f"  {record.generation}", "bold")
    head.append(f" as an answer to {record.problem}")
    return head


def _stages(record: Evaluation) -> Text:
    """Each stage that ran, with what it found and its seconds."""
    line = Text()
    for stage in Stage:
        seconds = record.stage_seconds.get(stage)
        if stage in (Stage.SHAPE, Stage.GRADIENTS):  # judged within the values stage's trials
            if Stage.VALUES not in record.stage_seconds:
                continue
        elif seconds is None:
            continue
        ended_here = stage is record.stage and not record.passed
        after = _rank(stage) > _rank(record.stage) and not record.passed
        if after:
            continue
        line.append("  ✗ " if ended_here else "  ✓ ", "red" if ended_here else "green")
        line.append(stage.value)
        if seconds is not None:
            line.append(f" {seconds:.1f}s", "dim")
    if record.trials:
        passed = sum(t.passed for t in record.trials)
        line.append(f"\n  {passed} of {len(record.trials)} trials passed", "dim")
        line.append(f", gradients {record.gradients.replace('_', ' ')}", "dim")
        line.append(_closest(record), "dim")
    return line


def _closest(record: Evaluation) -> str:
    """How much of its error budget the worst tensor used."""
    used = [
        (c.error.relative_l2 / c.budget.relative_l2, c, t.case)
        for t in record.trials
        for c in t.comparisons
        if c.passed and c.budget.relative_l2 > 0 and c.role is not TensorRole.BUFFER
    ]
    if not used:
        return ""
    share, found, case = max(used, key=lambda u: u[0])
    return (
        f"; largest error {share:.0%} of its budget "
        f"({found.tensor}, {case}: {found.error.relative_l2:.2g} of {found.budget.relative_l2:.2g})"
    )


def _against_solution(record: Evaluation, found: Baseline | None) -> list[RenderableType]:
    if found is None or "solution" not in found.speedups:
        return []
    mode = Mode.TRAINING_STEP if record.gradients is Gradients.CHECKED else Mode.FORWARD
    mine = record.speedup(mode)
    vetted = next((s for s in found.speedups["solution"] if s.mode is mode), None)
    if mine is None or vetted is None:
        return []
    share = mine.speedup / vetted.speedup
    text = (
        f"The vetted solution reaches {vetted.speedup:.3f}x in the {mode.replace('_', ' ')} here; "
        f"this candidate has {share:.2f} of its speed."
    )
    return [Text(text, "italic")]


def _launches(record: Evaluation) -> str:
    return ", ".join(f"{kernel} {count}x" for kernel, count in record.launches.items())


def _kernels(record: Evaluation) -> str:
    """Whose kernels took the device's time in the audit."""
    spent: dict[str, float] = {}
    for kernel in record.kernels:
        spent[kernel.origin] = spent.get(kernel.origin, 0.0) + kernel.milliseconds
    total = sum(spent.values()) or 1.0
    shares = ", ".join(f"{origin} {time / total:.1%}" for origin, time in spent.items())
    return f"the device's time by whose kernels they are: {shares}"


def _terms(record: Evaluation) -> Text:
    text = f"on {device_line(record.device)}; sandbox: {record.policy.sandbox}; "
    text += (
        f"gradients {record.policy.gradients}; TF32 {record.policy.tf32}; work {record.policy.work}"
    )
    if record.device.kind is DeviceKind.EMULATED:
        text += "; an emulated device judges what is computed, and never how fast"
    return Text(text, "dim")


def _frame(place: Place, candidate: str) -> Syntax:
    last = place.end_line or place.line
    first, last = max(1, place.line - _CONTEXT), min(last, place.line + 4) + _CONTEXT
    lines = set(range(place.line, min(place.end_line or place.line, place.line + 4) + 1))
    return Syntax(
        harmless(candidate),
        "python",
        line_numbers=True,
        line_range=(first, last),
        highlight_lines=lines,
        theme="ansi_dark",
        background_color="default",
    )


def _why(record: Evaluation) -> str:
    errors = [f for f in record.findings if f.severity is Severity.ERROR]
    if not errors:
        return ""
    first = errors[0]
    where = f"line {first.place.line}: " if first.place else ""
    return f"{first.rule} {where}{' '.join(first.message.split())}"


def _short(mode: Mode) -> str:
    return "step" if mode is Mode.TRAINING_STEP else "forward only"


def _rank(stage: Stage) -> int:
    return list(Stage).index(stage)
