"""KernelBench's batch flow over our candidates: build on CPU workers, then evaluation on GPUs.

A copy of its code is laid out the way it expects: one problem file and one sample for every
candidate, numbered in our order, so that its order is ours and a part of it is a fair part.
Building calls its ``batch_compile`` (what its script does under ``build_cache=True``);
evaluation runs its ``scripts/eval_from_generations.py`` unchanged over what was built. Both are
ended at a limit, may be called again, and then go on with what is left.

Does not: change its code, or count time in which it gave no result.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peer

LEVEL, RUN = 9, "throughput"
TIMEOUT = 300
"""Seconds, as in the command that its README gives for a batch (its default is 180, which its
parallel build counts from the start of the whole batch)."""
FLOW = {
    "build": "kernelbench.compile.batch_compile, as scripts/eval_from_generations.py calls it "
    "under build_cache=True",
    "eval": "scripts/eval_from_generations.py, unchanged, over the cache that was built",
}
_BUILT = re.compile(r"\[Status\] Compilation (\w+) for problem (\d+) ")
_LATE_BUILD = re.compile(r"\[TIME OUT\] Task timed out for Problem ID: (\d+)")
_EVALUATED = re.compile(r"\[Eval Result\] Problem ID: (\d+), ")
_LATE_EVAL = re.compile(r"\[WARNING\] Evaluation TIMED OUT for Problem ID: (\d+)")


@dataclass(frozen=True)
class Candidate:
    """One file to judge; its number is its place in the order."""

    number: int
    file: Path
    problem: str
    expected: str


class Layout:
    """Where everything lies below the work directory."""

    def __init__(self, work: Path, kernelbench: Path) -> None:
        self.top = work / "kernelbench"
        self.runs, self.cache = work / "runs", work / "cache"
        self.state, self.errors = work / "kernelbench.json", work / "kernelbench_stderr.txt"
        self.results = self.runs / RUN / "eval_results.json"
        self.original = kernelbench

    def write(self, candidates: list[Candidate], references: Path) -> None:
        """Lay out the code, the problems and the samples; what is there already stays."""
        for name in ("src", "scripts"):
            shutil.copytree(self.original / name, self.top / name, dirs_exist_ok=True)
        problems = self.top / "KernelBench" / f"level{LEVEL}"
        shutil.rmtree(problems, ignore_errors=True)
        problems.mkdir(parents=True)
        (self.runs / RUN).mkdir(parents=True, exist_ok=True)
        for one in candidates:
            reference = references / f"{one.problem}.py"
            shutil.copy(reference, problems / f"{one.number}_{one.problem}.py")
            name = f"level_{LEVEL}_problem_{one.number}_sample_0_kernel.py"
            shutil.copy(one.file, self.runs / RUN / name)
        for lock in self.cache.rglob("lock"):  # of a build that a limit ended
            lock.unlink()

    def known(self) -> dict[str, Any]:
        """What earlier calls have done."""
        if self.state.exists():
            known: dict[str, Any] = json.loads(self.state.read_text())
            return known
        return {"built": {}, "build_seconds": 0.0, "build_late": 0, "evaluated": {},
                "eval_seconds": 0.0, "eval_late": 0, "calls": []}  # fmt: skip

    def keep(self, known: dict[str, Any]) -> None:
        """For the next call."""
        self.state.write_text(json.dumps(known))


def build(layout: Layout, candidates: list[Candidate], limit: float) -> dict[str, Any]:
    """Build what has not been built, until the limit."""
    known = layout.known()
    work = [(c.number, 0) for c in candidates if str(c.number) not in known["built"]]
    config = {
        "work": work,
        "verbose": False,
        "gpu_arch": [peer.architecture()],
        "kernel_eval_build_dir": str(layout.cache),
        "run_name": RUN,
        "runs_dir": str(layout.runs),
        "level": LEVEL,
        "num_cpu_workers": os.cpu_count(),
        "timeout": TIMEOUT,
    }
    path = layout.top / "build.json"
    path.write_text(json.dumps(config))
    last = 0.0

    def line(text: str, seconds: float) -> None:
        nonlocal last
        if found := _BUILT.search(text):
            known["built"][found[2]] = {"compiled": found[1] == "True", "ended": seconds}
            last = seconds
        elif _LATE_BUILD.search(text):
            known["build_late"] += 1

    command = [sys.executable, str(Path(__file__).with_name("peer_build.py")), str(path)]
    finished = True
    if work:
        finished = follow(command, layout, limit, line)
        known["build_seconds"] += last
        known["calls"].append({"part": "build", "seconds": last, "finished": finished})
    layout.keep(known)
    rows = [_built_row(c, known) for c in candidates if str(c.number) in known["built"]]
    return {
        "finished": finished,
        "candidates": len(candidates),
        "built": len(rows),
        "compiled": sum(r["compiled"] for r in rows),
        "resubmitted_at_timeout": known["build_late"],
        "seconds": known["build_seconds"],
        "workers": config["num_cpu_workers"],
        "calls": known["calls"],
        "rows": rows,
    }


def evaluate(
    layout: Layout, candidates: list[Candidate], limit: float, devices: int
) -> dict[str, Any]:
    """Evaluate what has not been evaluated, until the limit."""
    known = layout.known()
    command = [
        sys.executable,
        str(layout.top / "scripts" / "eval_from_generations.py"),
        f"run_name={RUN}",
        "dataset_src=local",
        f"level={LEVEL}",
        f"num_gpu_devices={devices}",
        f"timeout={TIMEOUT}",
        f'gpu_arch=["{peer.architecture()}"]',
        f"runs_dir={layout.runs}",
        f"kernel_eval_build_dir={layout.cache}",
    ]
    last = 0.0

    def line(text: str, seconds: float) -> None:
        nonlocal last
        if found := _EVALUATED.search(text):
            known["evaluated"][found[1]] = {"seconds": seconds - last}
            last = seconds
        elif _LATE_EVAL.search(text):
            known["eval_late"] += 1

    finished = follow(command, layout, limit, line)
    known["eval_seconds"] += last
    known["calls"].append({"part": "eval", "seconds": last, "finished": finished})
    layout.keep(known)
    said = json.loads(layout.results.read_text()) if layout.results.exists() else {}
    rows = [
        _evaluated_row(c, known["evaluated"][str(c.number)], said[str(c.number)][0])
        for c in candidates
        if str(c.number) in known["evaluated"] and str(c.number) in said
    ]
    return {
        "finished": finished and len(rows) == len(candidates),
        "candidates": len(candidates),
        "evaluated": len(rows),
        "agrees_with_expected": sum(r["correct"] == (r["expected"] == "passed") for r in rows),
        "timed_out": known["eval_late"],
        "seconds": known["eval_seconds"],
        "devices": devices,
        "calls": known["calls"],
        "rows": rows,
    }


def _built_row(one: Candidate, known: dict[str, Any]) -> dict[str, Any]:
    return {"generation": one.file.name, **known["built"][str(one.number)]}


def _evaluated_row(one: Candidate, known: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    return {
        "generation": one.file.name,
        "expected": one.expected,
        "compiled": said["compiled"],
        "correct": said["correctness"],
        "seconds": known["seconds"],
        "runtime": said["runtime"],
        "said": {k: str(v)[:200] for k, v in said["metadata"].items()},
    }


def follow(
    command: list[str], layout: Layout, limit: float, line: Callable[[str, float], None]
) -> bool:
    """Run a command and hand over its lines with seconds since its start.

    Returns:
        Whether it ended by itself; False where the limit ended it.
    """
    late = threading.Event()
    with layout.errors.open("a") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=layout.top,
            env=peer.environment(layout.top, layout.top),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            start_new_session=True,
        )

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, end)
        timer.start()
        assert process.stdout is not None
        for text in process.stdout:
            line(text, time.perf_counter() - begun)
        process.wait()
        timer.cancel()
    if process.returncode and not late.is_set():
        tail = layout.errors.read_text()[-2000:]
        sys.exit(f"KernelBench ended with code {process.returncode}:\n{tail}")
    return not late.is_set()
