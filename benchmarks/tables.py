"""Writes the documents' tables from the results that are committed under ``benchmarks/results``.

    python benchmarks/tables.py            rewrite the documents in place
    python benchmarks/tables.py --check    exit 1 if a document is not what the results say

Every table stands between two marks, ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import convolution_tables  # noqa: E402
import gallery_tables  # noqa: E402
import peer_tables  # noqa: E402
import speed_tables  # noqa: E402

from harness.records import Verdict  # noqa: E402
from tests.emulation.expectations import FOLDER, Expectation, expected  # noqa: E402
from tests.headers import ANY  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "docs" / "emulated_device.md",
    ROOT / "docs" / "gallery.md",
    ROOT / "docs" / "design" / "fast_builds.md",
    ROOT / "docs" / "design" / "conv2d.md",
)

SETS = ("right", "bugs", "blind", "solutions")
"""The parts of ``benchmarks/emulated.py`` that were judged on both devices."""
LONGEST = 200
"""Characters of a finding in a table."""


def load(name: str) -> dict[str, Any]:
    """One result file."""
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return record


def machine(record: dict[str, Any]) -> str:
    """Where and how a result was measured, in one line."""
    device = record["device"]
    named = {"driver": device["driver"], "torch": device["torch"], "CUDA": device["cuda"]}
    versions = ", ".join(f"{name} {version}" for name, version in named.items() if version)
    return (
        f"{device['name']}, {versions}, {record['host_cores']} cores, "
        f"commit {record['commit'][:10]}; `{record['command']}`"
    )


def machines(*names: str) -> str:
    """Where and how several results were measured, one line for each machine."""
    found: dict[str, list[str]] = {}
    for name in names:
        where, command = machine(load(name)).split("; ", 1)
        found.setdefault(where, []).append(command)
    return "\n\n".join(f"{where}; {', '.join(commands)}" for where, commands in found.items())


def solutions() -> str:
    """The vetted solutions: verdict, error against budget, speedups."""
    record = load("spine_verdicts")
    lines = [
        "| solution | trials | largest relative L2 error at the headline (reference's own, budget) "
        "| forward | backward | training step (95 % interval) |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["result"]["rows"]:
        if "__solution" not in row["generation"]:
            continue
        worst = max(row["headline_errors"], key=lambda e: e["relative_l2"])
        speed = {s["mode"]: s for s in row["speedups"]}
        step = speed["training_step"]
        lines.append(
            f"| {row['generation'].split('__')[0]} | {row['passed_trials']} of {row['trials']} "
            f"| {worst['relative_l2']:.1e} ({worst['reference']:.1e}, {worst['budget']:.1e}) "
            f"| {speed['forward']['speedup']:.3f}x | {speed['backward']['speedup']:.3f}x "
            f"| {step['speedup']:.3f}x ({step['low']:.3f} – {step['high']:.3f}) |"
        )
    return "\n".join([*lines, "", machine(record)])


def verdicts() -> str:
    """Samples and hostile candidates: expected and actual verdict."""
    record = load("spine_verdicts")
    result = record["result"]
    lines = ["| candidate | expected | verdict | reached at |", "|---|---|---|---|"]
    for row in result["rows"]:
        if "__solution" not in row["generation"]:
            name = row["generation"].rsplit(".", 1)[0].replace("__", ": ").replace("_", " ")
            lines.append(f"| {name} | {row['expected']} | {row['verdict']} | {row['stage']} |")
    total = (
        f"{result['as_expected']} of {result['generations']} as expected (solutions included), "
        f"{len(result['faults'])} harness faults, {result['seconds']:.0f} s for the batch with "
        "empty caches."
    )
    return "\n".join([*lines, "", total, "", machine(record)])


def precision() -> str:
    """What the error budget lets through."""
    record = load("spine_precision")
    lines = ["| conv2d computed with | verdict | why |", "|---|---|---|"]
    for name, row in record["result"].items():
        why = row["findings"][0]["message"] if row["findings"] else "all trials passed"
        short = why.split(" Worst at")[0].replace("|", "/")
        lines.append(f"| {name.replace('_', ' ')} | {row['verdict']} | {short} |")
    return "\n".join([*lines, "", machine(record)])


def real_answer() -> str:
    """A real answer after each repair."""
    record = load("spine_real_answer")
    lines = ["| after the repair | verdict | reached at | first finding |", "|---|---|---|---|"]
    for row in record["result"]["rows"]:
        name = row["generation"].removesuffix(".py").split("_", 1)[1].replace("_", " ")
        errors = [f for f in row["findings"] if f["severity"] == "error"]
        why = errors[0]["message"].split(" Worst at")[0][:160].replace("|", "/") if errors else ""
        lines.append(f"| {name} | {row['verdict']} | {row['stage']} | {why} |")
    return "\n".join([*lines, "", machine(record)])


# ---- the emulated device ----


@dataclass(frozen=True)
class Pair:
    """One candidate on both devices."""

    name: str
    emulated: dict[str, Any]
    """Its row in the results."""
    h100: dict[str, Any]
    expectation: Expectation | None
    """None for what is to pass on both."""

    @property
    def side(self) -> str:
        """Who holds something against it: ``same`` verdict, ``both``, ``emulated``, ``h100``.

        ``unsupported`` where the emulated device says nothing.
        """
        emulated, h100 = self.emulated["verdict"], self.h100["verdict"]
        if emulated == h100:
            return "same"
        if emulated == Verdict.UNSUPPORTED:
            return "unsupported"
        if Verdict.PASSED not in (emulated, h100):
            return "both"
        return "h100" if emulated == Verdict.PASSED else "emulated"

    def as_expected(self, device: str) -> bool:
        """Whether the verdict is one that the candidate's header names (``emulated``, ``h100``)."""
        wanted = {Verdict.PASSED}
        if self.expectation is not None:
            wanted = getattr(self.expectation, device)
        return getattr(self, device)["verdict"] in wanted

    def verdict(self, device: str) -> str:
        """The verdict, marked where it is none of the expected ones."""
        verdict = getattr(self, device)["verdict"]
        return verdict if self.as_expected(device) else f"**{verdict}** (not expected)"


def pairs(part: str) -> list[Pair]:
    """The candidates of a part, by name."""
    emulated, h100 = (rows(f"emulated_{part}_{device}") for device in ("emulated", "cuda"))
    if emulated.keys() != h100.keys():
        raise SystemExit(f"{part}: the two devices have not judged the same candidates")
    known = {path.stem: path for path in (FOLDER / part).glob("*.py")}
    if part != "solutions" and known.keys() != emulated.keys():
        raise SystemExit(f"{part}: the results are not of the candidates that there are")
    return [
        Pair(name, row, h100[name], expected(known[name]) if name in known else None)
        for name, row in sorted(emulated.items())
    ]


def rows(name: str) -> dict[str, dict[str, Any]]:
    """The rows of a result by generation, without their ending."""
    return {row["generation"].removesuffix(".py"): row for row in load(name)["result"]["rows"]}


def title(name: str) -> str:
    """``row_sum: barrier missing in tree``."""
    problem, _, rest = name.partition("__")
    return f"{problem}: {rest.replace('_', ' ')}"


def decisive(row: dict[str, Any]) -> str:
    """The finding that decided, in short and with its line; a warning of the device's if none."""
    errors = [f for f in row["findings"] if f["severity"] == "error"]
    noticed = [f for f in row["findings"] if f["rule"].startswith("emulated.")]
    if not (errors or noticed):
        return ""
    found = (errors or noticed)[0]
    text = re.sub(r", while (?:running|listing) [^:]*(?=: )", "", found["message"])
    text = " ".join(text.split(" Worst at")[0].split())
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit(" ", 1)[0] + " …"
    text = re.sub(r"([|<*]|_(?=_)|(?<=_)_)", r"\\\1", text)
    place = f"line {found['line']}: " if found["line"] else ""
    return place + ("" if errors else "warning: ") + text


def explained(pair: Pair) -> bool:
    """Whether a finding says what is wrong, as far as the results keep findings."""
    kept = [SimpleNamespace(**f, detail="") for f in pair.emulated["findings"]]
    evaluation: Any = SimpleNamespace(
        passed=pair.emulated["verdict"] == Verdict.PASSED, findings=kept
    )
    return pair.expectation is None or pair.expectation.explained(evaluation)


def emulated_agreement() -> str:
    """Both devices, set by set, in numbers."""
    lines = [
        "| set | candidates | as expected, emulated | as expected, H100 | same verdict "
        "| both against it, another verdict | `unsupported` | only the emulated device against it "
        "| only the H100 against it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for part in SETS:
        found = pairs(part)
        sides = [p.side for p in found]
        counts = (
            len(found),
            sum(p.as_expected("emulated") for p in found),
            sum(p.as_expected("h100") for p in found),
            *(sides.count(side) for side in ("same", "both", "unsupported", "emulated", "h100")),
        )
        lines.append(f"| {part} | {' | '.join(map(str, counts))} |")
    bugs = pairs("bugs")
    chance = sum(p.expectation is not None and p.expectation.h100 == ANY for p in bugs)
    said = (
        f"Of {len(bugs)} bugs, the emulated device's findings hold the words by which the bug is "
        f"known in {sum(map(explained, bugs))}; in {chance} any verdict is expected on a GPU."
    )
    names = [f"emulated_{part}_{device}" for device in ("emulated", "cuda") for part in SETS]
    return "\n".join([*lines, "", said, "", machines(*names)])


def emulated_bugs() -> str:
    """The seeded bugs: both verdicts, and what the emulated device says."""
    lines = [
        "| candidate | emulated | H100 | decisive finding on the emulated device |",
        "|---|---|---|---|",
    ]
    for pair in pairs("bugs"):
        lines.append(
            f"| {title(pair.name)} | {pair.verdict('emulated')} | {pair.verdict('h100')} "
            f"| {decisive(pair.emulated)} |"
        )
    return "\n".join([*lines, "", machines("emulated_bugs_emulated", "emulated_bugs_cuda")])


def emulated_right() -> str:
    """The candidates without a bug: both verdicts."""
    lines = ["| candidate | emulated | H100 |", "|---|---|---|"]
    for pair in pairs("right"):
        lines.append(
            f"| {title(pair.name)} | {pair.verdict('emulated')} | {pair.verdict('h100')} |"
        )
    return "\n".join([*lines, "", machines("emulated_right_emulated", "emulated_right_cuda")])


def emulated_blind() -> str:
    """The bugs that the emulated device does not see: both verdicts, and what the GPU shows."""
    lines = ["| candidate | emulated | H100 | decisive finding on the H100 |", "|---|---|---|---|"]
    for pair in pairs("blind"):
        lines.append(
            f"| {title(pair.name)} | {pair.verdict('emulated')} | {pair.verdict('h100')} "
            f"| {decisive(pair.h100)} |"
        )
    return "\n".join([*lines, "", machines("emulated_blind_emulated", "emulated_blind_cuda")])


def emulated_real_answer() -> str:
    """The real answer after each repair, on both devices."""
    h100 = rows("spine_real_answer")
    lines = [
        "| after the repair | emulated | H100 | decisive finding on the emulated device |",
        "|---|---|---|---|",
    ]
    for name, row in rows("emulated_real_answer_emulated").items():
        repair = name.removeprefix("conv2d__")
        lines.append(
            f"| {repair.split('_', 1)[1].replace('_', ' ')} | {row['verdict']} "
            f"| {h100[repair]['verdict']} | {decisive(row)} |"
        )
    names = ("emulated_real_answer_emulated", "spine_real_answer")
    return "\n".join([*lines, "", machines(*names)])


def emulated_times() -> str:
    """What judging on the emulated device costs."""
    made = load("emulated_solutions_emulated")["prepared"]
    lines = [
        f"Preparation, once: {made['seconds']:.0f} s, {made['bytes'] / 1e6:.0f} MB on disk.",
        "",
        "| part | candidates | batch with nothing built | batch with all built "
        "| build of one: median (longest) | values and gradients of one: median (longest) |",
        "|---|---|---|---|---|---|",
    ]
    parts = ("solutions", "real_answer", "right", "bugs", "blind")
    for part in parts:
        result = load(f"emulated_{part}_emulated")["result"]
        seconds = [row["seconds"] for row in result["rows"]]
        builds = [s["build"] for s in seconds if "load" in s]
        values = [s["values"] for s in seconds if "values" in s]
        lines.append(
            f"| {part.replace('_', ' ')} | {len(seconds)} | {result['seconds']:.0f} s "
            f"| {result['cached_seconds']:.0f} s "
            f"| {median(builds):.1f} s ({max(builds):.1f} s) "
            f"| {median(values):.1f} s ({max(values):.1f} s) |"
        )
    names = [f"emulated_{part}_emulated" for part in parts]
    return "\n".join([*lines, "", machines(*names)])


def first_verdict(name: str) -> Callable[[], str]:
    """One candidate at a time, ours and KernelBench's."""

    def table() -> str:
        record = load(name)
        return "\n".join([*peer_tables.first_verdict(record), "", machine(record)])

    return table


def throughput() -> str:
    """A batch, ours and KernelBench's, on one GPU and on several."""
    names = sorted(path.stem for path in RESULTS.glob("throughput_*.json"))
    lines = peer_tables.throughput({name: load(name) for name in names})
    return "\n".join([*lines, "", machines(*names)])


def speed(name: str) -> Callable[[], str]:
    """A table of the clock, from the result of that name."""

    def table() -> str:
        record = load(name)
        kind = name.removeprefix("clock_")
        return "\n".join([*getattr(speed_tables, kind)(record), "", machine(record)])

    return table


def clock() -> str:
    """The references against themselves; relu as clocked again since its allowance grew."""
    record, again = load("clock_against_itself"), load("clock_against_itself_relu")
    newer = again["result"]["against_itself"]
    names = {row["problem"] for row in newer}
    kept = [row for row in record["result"]["against_itself"] if row["problem"] not in names]
    record["result"] |= {"against_itself": [*kept, *newer]}
    lines = speed_tables.against_itself(record)
    return "\n".join([*lines, "", machines("clock_against_itself", "clock_against_itself_relu")])


def builds() -> str:
    """Stock builds and ours; the half-precision ones' outputs as compared in a later run."""
    record, again = load("builds"), load("builds_half")
    outputs = {row["candidate"]: row["outputs"] for row in again["result"]["candidates"]}
    for row in record["result"]["candidates"]:
        row["outputs"] = outputs.get(row["candidate"], row["outputs"])
    return "\n".join([*speed_tables.builds(record), "", machines("builds", "builds_half")])


def convolutions(table_of: Callable[..., list[str]], *names: str) -> Callable[[], str]:
    """A table of conv2d, from the results of those names."""

    def table() -> str:
        return "\n".join([*table_of(*(load(name) for name in names)), "", machines(*names)])

    return table


def gallery_results() -> dict[str, list[str]]:
    """The names of the gallery's results, by device: the full run, then what was graded again."""
    names = {d: [f"gallery_{d}", f"gallery_{d}_again"] for d in gallery_tables.DEVICES}
    found = {d: [n for n in both if (RESULTS / f"{n}.json").exists()] for d, both in names.items()}
    return {device: here for device, here in found.items() if names[device][0] in here}


def gallery_records() -> dict[str, dict[str, Any]]:
    """The gallery's results, by device; what was graded again stands in the full run's place."""
    records = {}
    for device, (full, *again) in gallery_results().items():
        records[device] = load(full)
        for name in again:
            try:
                records[device] = gallery_tables.overlaid(records[device], load(name))
            except ValueError as error:
                raise SystemExit(f"{name}.json: {error}") from error
    return records


def gallery_rates() -> str:
    """The gallery in numbers."""
    names = [name for found in gallery_results().values() for name in found]
    return "\n".join([*gallery_tables.rates(gallery_records()), "", machines(*names)])


def gallery_cost() -> str:
    """What the audit's launch census, ablation and further draws added."""
    names = "gallery_cuda_before_census", "gallery_cuda"
    lines = gallery_tables.cost(*(load(name) for name in names))
    return "\n".join([*lines, "", machines(*names)])


def gallery(kind: str) -> Callable[[], str]:
    """One kind of entries, each with its verdicts."""

    def table() -> str:
        return "\n".join(gallery_tables.entries(kind, gallery_records()))

    return table


TABLES = {
    "conv2d clock": convolutions(
        convolution_tables.clock, "convolutions_clock", "convolutions_clock_former"
    ),
    "conv2d kernels": convolutions(convolution_tables.kernels, "convolutions_kernels"),
    "conv2d variants": convolutions(
        convolution_tables.variants, "conv2d_variants", "conv2d_halves"
    ),
    "conv2d mma": convolutions(convolution_tables.mma, "convolutions_mma", "convolutions_kernels"),
    "conv2d counters": convolutions(convolution_tables.counters, "convolutions_counters"),
    "wgmma forms": convolutions(convolution_tables.forms, "wgmma_forms"),
    "gallery rates": gallery_rates,
    "gallery cost": gallery_cost,
    "gallery honest": gallery("honest"),
    "gallery flawed": gallery("flawed"),
    "gallery cheats": gallery("cheats"),
    "first verdict": first_verdict("first_verdict"),
    "first verdict emulated": first_verdict("first_verdict_emulated"),
    "throughput": throughput,
    "clock": clock,
    "planted": speed("clock_planted"),
    "builds": builds,
    "real answer": real_answer,
    "solutions": solutions,
    "verdicts": verdicts,
    "precision": precision,
    "emulated agreement": emulated_agreement,
    "emulated bugs": emulated_bugs,
    "emulated right": emulated_right,
    "emulated blind": emulated_blind,
    "emulated real answer": emulated_real_answer,
    "emulated times": emulated_times,
}


def render(text: str) -> str:
    """A document with every table made anew."""

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- table: {name} -->\n{TABLES[name]()}\n<!-- end -->"

    return re.sub(r"<!-- table: ([a-z0-9 ]+) -->\n.*?<!-- end -->", table, text, flags=re.S)


if __name__ == "__main__":
    before = {path: path.read_text() for path in DOCUMENTS}
    after = {path: render(text) for path, text in before.items()}
    stale = [path for path in DOCUMENTS if before[path] != after[path]]
    if "--check" in sys.argv:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"{names}: not what benchmarks/results says" if stale else 0)
    for path in stale:
        path.write_text(after[path])
