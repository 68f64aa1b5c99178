"""Writes the README's tables from the results that are committed under ``benchmarks/results``.

    python benchmarks/tables.py            rewrite README.md in place
    python benchmarks/tables.py --check    exit 1 if README.md is not what the results say

Every table stands between two marks, ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"


def load(name: str) -> dict[str, Any]:
    """One result file."""
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return record


def machine(record: dict[str, Any]) -> str:
    """Where and how a result was measured, in one line."""
    device = record["device"]
    return (
        f"{device['name']}, driver {device['driver']}, torch {device['torch']}, "
        f"CUDA {device['cuda']}, {record['host_cores']} cores, commit {record['commit'][:10]}; "
        f"`{record['command']}`"
    )


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


def against_itself() -> str:
    """A/A: the reference clocked against itself, and against torch.compile."""
    record = load("spine_baselines")
    lines = [
        "| problem | mode | reference | A/A speedup (95 % interval) | torch.compile over eager |",
        "|---|---|---|---|---|",
    ]
    for problem, found in record["result"].items():
        compiled = {s["mode"]: s for s in found["speedups"].get("compiled", [])}
        for one in found["speedups"]["eager"]:
            other = compiled.get(one["mode"])
            lines.append(
                f"| {problem} | {one['mode'].replace('_', ' ')} "
                f"| {one['reference']['milliseconds']:.4g} ms "
                f"| {one['speedup']:.4f}x ({one['low']:.4f} – {one['high']:.4f}) "
                f"| {'–' if other is None else format(other['speedup'], '.3f') + 'x'} |"
            )
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


TABLES = {
    "real answer": real_answer,
    "solutions": solutions,
    "verdicts": verdicts,
    "precision": precision,
    "against itself": against_itself,
}


def render(text: str) -> str:
    """The README with every table made anew."""

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- table: {name} -->\n{TABLES[name]()}\n<!-- end -->"

    return re.sub(r"<!-- table: ([a-z ]+) -->\n.*?<!-- end -->", table, text, flags=re.S)


if __name__ == "__main__":
    before = README.read_text()
    after = render(before)
    if "--check" in sys.argv:
        sys.exit(before != after and "README.md is not what benchmarks/results says")
    README.write_text(after)
