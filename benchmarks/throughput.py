"""A batch of candidates over five problems: verdicts per hour, ours and KernelBench's.

    python benchmarks/throughput.py OUT --part PART [--kernelbench PATH] [--devices N]
                                    [--first N] [--limit SECONDS] [--work DIR] [--device cuda]

The candidates are those of ``benchmarks/candidates``, problem by problem in turn, so that the
first N are a fair part. Every part writes ``throughput_PART[_Ndevices].json`` into OUT:

    preparation         our one-time preparation and nothing else
    ours                ``harness.pool.batch`` with an empty artifact store; the preparation is
                        done before, unless it was in the same DIR, and told apart
    ours_again          the same with everything built (after ``ours``, same DIR)
    kernelbench_build   KernelBench's parallel build (see ``peer_batch``)
    kernelbench_eval    KernelBench's evaluation of what was built (same DIR); both go on
                        where they were when they are called again

A part that reaches its limit ends by itself and says how many candidates it got through;
nothing is extrapolated.

Does not: compare (see ``tables``, which takes seconds per candidate of the two).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import peer
import peer_batch
from peer_batch import Candidate
from spine import ROOT, commit

from harness.devices import choose, gpus
from harness.mapping import read_manifest
from harness.pool import Event, batch
from harness.records import Evaluation, Stage
from harness.settings import Settings

FOLDER = ROOT / "benchmarks" / "candidates"
ON_THE_HOST = (Stage.EXTRACT, Stage.SCREEN, Stage.BUILD)
"""The stages that hold no device; all others do."""


class Late(Exception):
    """The limit was reached."""


def candidates(first: int | None, device: str) -> list[Candidate]:
    """Every candidate, the problems in turn, each problem's in an order that means nothing."""
    by_problem: dict[str, list[str]] = defaultdict(list)
    manifest = read_manifest(FOLDER)
    for name in sorted(manifest, key=lambda n: hashlib.sha256(n.encode()).hexdigest()):
        by_problem[manifest[name]["problem"]].append(name)
    turns = zip_longest(*(by_problem[problem] for problem in sorted(by_problem)))
    names = [name for turn in turns for name in turn if name]
    kind = "emulated" if device == "emulated" else "cuda"
    return [
        Candidate(
            number,
            FOLDER / name,
            manifest[name]["problem"],
            manifest[name]["expected"][kind],
        )
        for number, name in enumerate(names[:first], 1)
    ]


def lay_out(chosen: list[Candidate], folder: Path) -> dict[str, Candidate]:
    """Copy candidates so that the order of their names is theirs; by the new names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    named = {f"{c.number:03d}_{c.file.name}": c for c in chosen}
    for name, one in named.items():
        shutil.copy(one.file, folder / name)
    files = {name: {"problem": one.problem} for name, one in named.items()}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    return named


def ours(
    chosen: list[Candidate], work: Path, device: str, devices: int, limit: float, *, built: bool
) -> dict[str, Any]:
    """One batch by the harness, as far as it gets within the limit."""
    store, prepared = work / "store", work / "prepared"
    if built and not store.is_dir():
        sys.exit(f"{store}: nothing is built there; run the part `ours` with the same --work first")
    begun = time.perf_counter()
    preparation = None if built else prepare(work, device)
    limit -= time.perf_counter() - begun
    if not built:
        shutil.rmtree(store, ignore_errors=True)
    settings = Settings(cache_dir=store, prepared_dir=prepared)
    named = lay_out(chosen, work / "generations")
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    begun = time.perf_counter()

    def watch(event: Event) -> None:
        ended = time.perf_counter() - begun
        if event.kind == "fault":
            faults.append(f"{event.name}: {event.text[:400]}")
        if event.evaluation is not None:
            rows.append(row(event.evaluation, named[event.name], ended))
            say(f"{ended:6.1f} s  {event.evaluation.verdict:16} {event.name}")
        if ended > limit:
            raise Late

    finished = True
    try:
        batch(work / "generations", run, device=device, settings=settings, watch=watch)
    except Late:
        finished = False
    seconds = time.perf_counter() - begun
    if rows and not finished:
        seconds = rows[-1]["ended"]  # what was under way gave no verdict
    return summary(rows, faults, len(chosen), seconds, devices, finished, preparation)


def prepare(work: Path, device: str) -> dict[str, float]:
    """What the first use costs once: one candidate judged with and without what it prepares."""
    known = work / "preparation.json"
    if known.exists():
        measured: dict[str, float] = json.loads(known.read_text())
        return measured
    say("preparing")
    shutil.rmtree(work / "prepared", ignore_errors=True)
    right = (c for c in candidates(None, device) if c.expected == "passed")
    one = next(c for c in right if c.problem == "relu")
    taken = []
    for name in ("first", "second"):
        lay_out([one], work / "one")
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            settings = Settings(cache_dir=Path(scratch) / "store", prepared_dir=work / "prepared")
            run = Path(scratch) / "run"
            begun = time.perf_counter()
            batch(work / "one", run, device=device, clocked=False, settings=settings)
            taken.append(time.perf_counter() - begun)
        say(f"the {name} use: {taken[-1]:.1f} s")
    measured = {"first_use": taken[0], "after_it": taken[1], "preparation": taken[0] - taken[1]}
    known.write_text(json.dumps(measured))
    return measured


def row(evaluation: Evaluation, one: Candidate, ended: float) -> dict[str, Any]:
    """What is kept of an evaluation."""
    errors = [f.message[:200] for f in evaluation.findings if f.severity == "error"]
    return {
        "generation": one.file.name,
        "expected": one.expected,
        "verdict": evaluation.verdict,
        "ended": round(ended, 3),
        "seconds": {k.value: round(v, 3) for k, v in evaluation.stage_seconds.items()},
        "why": errors[:1],
    }


def summary(
    rows: list[dict[str, Any]],
    faults: list[str],
    count: int,
    seconds: float,
    devices: int,
    finished: bool,
    preparation: dict[str, float] | None,
) -> dict[str, Any]:
    """A batch in numbers."""
    totals: Counter[str] = Counter()
    for one in rows:
        totals.update(one["seconds"])
    host = {stage.value for stage in ON_THE_HOST}
    on_devices = sum(value for stage, value in totals.items() if stage not in host)
    return {
        "finished": finished,
        "candidates": count,
        "judged": len(rows),
        "as_expected": sum(one["verdict"] in one["expected"].split("|") for one in rows),
        "faults": faults,
        "seconds": seconds,
        "verdicts_per_hour": 3600 * len(rows) / seconds,
        "devices": devices,
        "device_stage_seconds": on_devices,
        "device_stage_share": on_devices / (seconds * devices),
        "stage_seconds": dict(totals),
        "build_jobs": Settings().build_jobs,
        "preparation": preparation,
        "rows": rows,
    }


def say(text: str) -> None:
    """For whoever watches."""
    sys.stderr.write(f"{text}\n")


def device_names(device: str, devices: int) -> str:
    """The pool's name of the devices that take part."""
    if device != "cuda" or devices == 1:
        return "cuda:0" if device == "cuda" else device
    if devices != len(gpus()):
        sys.exit(f"a batch runs on one GPU or on all {len(gpus())} of this machine, not {devices}")
    return "cuda"


def main() -> None:
    """Run one part and write its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parts = ("preparation", "ours", "ours_again", "kernelbench_build", "kernelbench_eval")
    parser.add_argument("--part", choices=parts, required=True)
    parser.add_argument("--kernelbench", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--first", type=int)
    parser.add_argument("--limit", type=float, default=540.0)
    default = Path(tempfile.gettempdir()) / "kernel-harness-throughput"
    parser.add_argument("--work", type=Path, default=default)
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    device, _ = choose(given.device)
    chosen = candidates(given.first, given.device)
    described = None
    if given.part.startswith("kernelbench"):
        if given.kernelbench is None:
            parser.error("--kernelbench is needed for this part")
        path = given.kernelbench.resolve()
        peer.check(path, scripts=True)
        described = {**peer.describe(path), "flow": peer_batch.FLOW, "timeout": peer_batch.TIMEOUT}
        layout = peer_batch.Layout(work, path)
        layout.write(chosen, ROOT / "reference_models")
        if given.part == "kernelbench_build":
            result = peer_batch.build(layout, chosen, given.limit)
        else:
            result = peer_batch.evaluate(layout, chosen, given.limit, given.devices)
    elif given.part == "preparation":
        result = prepare(work, device_names(given.device, 1))
    else:
        names = device_names(given.device, given.devices)
        again = given.part == "ours_again"
        result = ours(chosen, work, names, given.devices, given.limit, built=again)
    record = {
        "device": device.model_dump(mode="json"),
        "host_cores": os.cpu_count(),
        "commit": commit(),
        "command": f"python benchmarks/throughput.py OUT --part {given.part}"
        + (" --kernelbench PATH" if described else "")
        + (f" --devices {given.devices}" if given.devices > 1 else "")
        + (f" --first {given.first}" if given.first else ""),
        "kernelbench": described,
        "result": result,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    several = f"_{given.devices}devices" if given.devices > 1 else ""
    path = given.out / f"throughput_{given.part}{several}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    shown = {k: v for k, v in result.items() if k not in ("rows", "calls")}
    say(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
