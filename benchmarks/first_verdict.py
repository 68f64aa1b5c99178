"""How long the first verdict on one candidate takes, beside KernelBench's on the same files.

    python benchmarks/first_verdict.py OUT --kernelbench PATH [--rounds N] [--device cuda]

For every candidate:

    cold    nothing built: an empty artifact store, an empty build directory
    again   the same once more, with everything built

``ours`` is ``kernel-harness grade FILE --json`` as a user runs it and ``kernelbench`` its
``eval_kernel_against_ref`` as its scripts call it (see ``peer_child``), each in a fresh process,
clocked from its start to its exit. ``warm`` is ours beside a fork server that stayed from the
command before (``KERNEL_HARNESS_KEEP_WARM_SECONDS``), and ``running`` in a process that has judged
another problem's candidate before, as a batch or a reward does: ``Grader.grade``. Our one-time
preparation is done before, by judging another candidate twice with an empty artifact store, and
is the difference between the two. Without ``--kernelbench`` only ours is measured.

Does not: say anything about many candidates at a time (see ``throughput``).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peer
from spine import ROOT, commit

from harness.devices import choose
from harness.generation import Generation
from harness.grader import Grader
from harness.problems import find
from harness.settings import Settings

CANDIDATES = {
    "relu": ROOT / "benchmarks" / "candidates" / "relu__grid_stride.py",
    "conv2d": ROOT / "benchmarks" / "candidates" / "conv2d__tile_64x64.py",
}
"""Written as models write them: with ``torch/extension.h``, which is what takes long to build."""
STATES = ("cold", "again")
OTHER = ("softmax", ROOT / "solutions" / "softmax.py")
"""The candidate that is judged for the sake of the preparation."""


KEEP_WARM = 60
"""Seconds that a fork server stays, where one does."""


def ours(
    problem: str, file: Path, device: str, folder: Path, store: str, keep_warm: int = 0
) -> dict[str, Any]:
    """One ``kernel-harness grade``, with its artifacts in ``store``."""
    command = [sys.executable, "-m", "harness.cli", "grade", str(file)]
    command += ["--problem", problem, "--device", device, "--json"]
    environment = {
        **os.environ,
        "KERNEL_HARNESS_CACHE_DIR": str(folder / store),
        "KERNEL_HARNESS_PREPARED_DIR": str(folder / "prepared"),
        "KERNEL_HARNESS_KEEP_WARM_SECONDS": str(keep_warm),
    }
    begun = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    if done.returncode not in (0, 1):
        sys.exit(f"kernel-harness grade {file.name} failed:\n{done.stderr[-2000:]}")
    return told(seconds, json.loads(done.stdout))


def warm(device: str, folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each candidate cold and again, beside the fork server of a command before."""
    ours(*OTHER, device, folder, "store_warm", KEEP_WARM)
    for problem, file in CANDIDATES.items():
        for state in STATES:
            yield problem, state, ours(problem, file, device, folder, "store_warm", KEEP_WARM)


def running(device: str, folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each candidate cold and again, in this process."""
    settings = Settings(cache_dir=folder / "store_running", prepared_dir=folder / "prepared")
    with Grader(device, settings=settings) as grader:
        other, file = OTHER
        grader.grade(Generation.read(file), find(other))
        for problem, file in CANDIDATES.items():
            for state in STATES:
                begun = time.perf_counter()
                evaluation = grader.grade(Generation.read(file), find(problem))
                seconds = time.perf_counter() - begun
                yield problem, state, told(seconds, evaluation.model_dump(mode="json"))


def told(seconds: float, evaluation: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one of our judgements."""
    return {
        "seconds": seconds,
        "stages": evaluation["stage_seconds"],
        "verdict": evaluation["verdict"],
        "builds": [b["route"] for b in evaluation["builds"]],
        "trials": len(evaluation["trials"]),
        "speedups": {s["mode"]: s["speedup"] for s in evaluation["speedups"]},
    }


def theirs(problem: str, file: Path, path: Path, folder: Path, build: Path) -> dict[str, Any]:
    """One evaluation by KernelBench, with ``build`` as its build directory."""
    out = folder / "peer.json"
    out.unlink(missing_ok=True)
    child = Path(__file__).with_name("peer_child.py")
    reference = ROOT / "reference_models" / f"{problem}.py"
    command = [sys.executable, str(child), str(reference), str(file), str(build)]
    command += [peer.architecture(), str(out)]
    build.mkdir(parents=True, exist_ok=True)
    environment = peer.environment(path, folder)
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if not out.exists():
        return {"seconds": seconds, "verdict": "failed", "said": done.stderr[-2000:]}
    said = json.loads(out.read_text())
    verdict = "correct" if said["correct"] else "incorrect" if said["compiled"] else "not compiled"
    stages = {name: said.pop(name) for name in ("import", "build", "check")}
    return {"seconds": seconds, "stages": stages, "verdict": verdict, "said": said}


def prepare(device: str, folder: Path) -> dict[str, float]:
    """What the first use costs once: judging a candidate with and without what it prepares."""
    say("the first use of all, which prepares")
    first = ours(*OTHER, device, folder, "store_first")["seconds"]
    say("the same with another empty store")
    second = ours(*OTHER, device, folder, "store_second")["seconds"]
    return {"first_use": first, "after_it": second, "preparation": first - second}


def measure(
    device: str,
    path: Path | None,
    rounds: int,
    folder: Path,
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Everything, round by round; what there is so far is kept after each measurement."""
    prepared = prepare(device, folder)
    rows: list[dict[str, Any]] = []

    def add(who: str, problem: str, state: str, measured: dict[str, Any]) -> None:
        rows.append({"who": who, "candidate": problem, "state": state, **measured})
        say_row(rows[-1])
        keep({"prepared": prepared, "rows": rows, "ratios": ratios(rows)})

    for number in range(rounds):
        for problem, file in CANDIDATES.items():
            store, build = f"store_{number}_{problem}", folder / f"build_{number}_{problem}"
            for state in STATES:
                add("ours", problem, state, ours(problem, file, device, folder, store))
            for state in STATES if path else ():
                add("kernelbench", problem, state, theirs(problem, file, path, folder, build))
        if number == 0:
            for problem, state, measured in warm(device, folder):
                add("warm", problem, state, measured)
            for problem, state, measured in running(device, folder):
                add("running", problem, state, measured)


def ratios(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """How many times as long KernelBench takes as ours and as ours running, by candidate.

    From the medians over rounds, and only of candidates that were measured in full and on which
    its process did not fail. ``built`` holds its first evaluation against ours of a candidate that
    is built already.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for problem in CANDIDATES:
        of = [row for row in rows if row["candidate"] == problem]
        other = medians(of, "kernelbench")
        if len(other) < 2 or any(row["verdict"] == "failed" for row in of):
            continue
        for who in ("ours", "warm", "running"):
            mine = medians(of, who)
            if len(mine) == 2:
                found.setdefault(problem, {})[who] = {
                    "cold": other["cold"] / mine["cold"],
                    "again": other["again"] / mine["again"],
                    "built": other["cold"] / mine["again"],
                }
    return found


def medians(rows: list[dict[str, Any]], who: str) -> dict[str, float]:
    """Seconds by state, over rounds."""
    taken = {s: [r["seconds"] for r in rows if (r["who"], r["state"]) == (who, s)] for s in STATES}
    return {state: statistics.median(values) for state, values in taken.items() if values}


def say(text: str) -> None:
    """For whoever watches."""
    sys.stderr.write(f"{text}\n")


def say_row(row: dict[str, Any]) -> None:
    """One line for a measurement."""
    stages = " ".join(f"{name} {value:.1f}" for name, value in row.get("stages", {}).items())
    say(
        f"{row['candidate']:7} {row['who']:12} {row['state']:6} {row['seconds']:7.1f} s  "
        f"{row['verdict']}  {stages}"
    )


def main() -> None:
    """Measure and write ``first_verdict.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kernelbench", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    path = given.kernelbench.resolve() if given.kernelbench else None
    device, _ = choose(given.device)
    if path:
        peer.check(path)
    record = {
        "device": device.model_dump(mode="json"),
        "host_cores": os.cpu_count(),
        "commit": commit(),
        "command": f"python benchmarks/first_verdict.py OUT{' --kernelbench PATH' if path else ''}"
        f"{'' if given.device == 'cuda' else f' --device {given.device}'} --rounds {given.rounds}",
        "kernelbench": peer.describe(path) if path else None,
    }
    given.out.mkdir(parents=True, exist_ok=True)

    def keep(result: dict[str, Any]) -> None:
        text = json.dumps({**record, "result": result}, indent=1) + "\n"
        (given.out / "first_verdict.json").write_text(text)

    with tempfile.TemporaryDirectory() as scratch:
        measure(given.device, path, given.rounds, Path(scratch), keep)


if __name__ == "__main__":
    main()
