"""What the clock is worth: references against themselves, and a slow-down of one per cent.

    python benchmarks/clock.py OUT [part …] [--runs N] [--problems NAME …]

Parts: against_itself planted.

``against_itself`` clocks the reference of each shipped problem in N pairs of fresh processes.
``planted`` clocks a large matrix product against the same followed by a kernel that idles for one
per cent of its time, N times. Writes one JSON file per part into OUT (committed under
``benchmarks/results``). Needs an NVIDIA GPU.

Does not: compile anything.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spine import PROBLEMS, record_of

from harness.calibration import against_itself, allowances
from harness.devices import choose
from harness.grader import Grader
from harness.problems import ProblemFile, find
from harness.records import Speedup

LARGE_PRODUCT = """
import torch
from torch import nn

GRADIENTS = "off"


class Model(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, a, b):
        return a @ b


def get_inputs():
    return [torch.rand(4096, 4096), torch.rand(4096, 4096)]


def get_init_inputs():
    return []
"""
SLOWER = """
import torch
from torch import nn


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, a, b):
        c = a @ b
        torch.cuda._sleep({cycles})
        return c
"""
LAUNCH_MS = 0.0023
"""What an idling kernel takes beside its idling, behind another kernel, about."""
PLANTED = 0.01


def itself(runs: int, problems: Sequence[str] = PROBLEMS) -> dict[str, Any]:
    """Shipped problems' references against themselves."""
    measured, seconds = {}, {}
    with Grader("cuda") as grader:
        for name in problems:
            measured[name] = []
            begun = time.perf_counter()
            for _ in range(runs):
                speedups, failures = grader.baseline(find(name), None, ("eager",))
                if failures:
                    raise SystemExit(f"{name}: {failures}")
                measured[name].append(speedups["eager"])
            seconds[name] = round((time.perf_counter() - begun) / runs, 2)
            say(name, seconds[name])
    found = [one for name, each in measured.items() for one in against_itself(name, each)]
    slack = {
        name: [
            [
                s.outer_candidate_ms - s.spot_candidate_ms,
                s.outer_reference_ms - s.spot_reference_ms,
            ]
            for run in each
            for s in run
            if s.spot_candidate_ms and s.spot_reference_ms
        ]
        for name, each in measured.items()
    }
    return {
        "runs": runs,
        "seconds_per_run": seconds,
        "against_itself": [one.model_dump(mode="json") for one in found],
        "allowances": allowances(measured).model_dump(),
        "outer_minus_event_ms": slack,
    }


def planted(runs: int) -> dict[str, Any]:
    """A candidate that is one per cent slower than the reference, found or not."""
    with tempfile.TemporaryDirectory() as folder, Grader("cuda") as grader:
        path = Path(folder) / "large_product.py"
        path.write_text(LARGE_PRODUCT)
        problem = ProblemFile.read(path)
        same = LARGE_PRODUCT.replace("class Model(", "class ModelNew(")
        plain = one_run(grader, problem, same)
        latency = plain.reference.milliseconds
        cycles = int((PLANTED * latency - LAUNCH_MS) * 1.98e6)
        truth = 1 / (1 + PLANTED)
        rows = []
        for _ in range(runs):
            found = one_run(grader, problem, SLOWER.format(cycles=cycles))
            rows.append(
                {
                    "speedup": found.speedup,
                    "low": found.low,
                    "high": found.high,
                    "found": found.high < 1,
                    "holds_the_truth": found.low <= truth <= found.high,
                }
            )
            say("planted", rows[-1])
    return {
        "runs": runs,
        "reference_ms": latency,
        "idle_cycles": cycles,
        "truth": truth,
        "found": sum(r["found"] for r in rows),
        "holds_the_truth": sum(r["holds_the_truth"] for r in rows),
        "rows": rows,
    }


def one_run(grader: Grader, problem: ProblemFile, text: str) -> Speedup:
    """The reference against a module in Python; the problem has a forward only."""
    speedups, failures = grader.baseline(problem, text, ("solution",))
    if failures:
        raise SystemExit(str(failures))
    (forward,) = speedups["solution"]
    return forward


def say(*words: Any) -> None:
    """One line for whoever watches."""
    sys.stderr.write(" ".join(map(str, words)) + "\n")


def main() -> None:
    """Run the parts and write a file for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="*", choices=[[], "against_itself", "planted"])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, choices=PROBLEMS)
    asked = parser.parse_args()
    device, _ = choose("cuda")
    asked.out.mkdir(parents=True, exist_ok=True)
    some = f" --problems {' '.join(asked.problems)}" if asked.problems != PROBLEMS else ""
    parts = {"against_itself": lambda: itself(asked.runs, asked.problems)}
    parts["planted"] = lambda: planted(asked.runs)
    for part in asked.parts or list(parts):
        command = f"clock.py OUT {part} --runs {asked.runs}{some}"
        record = record_of(device, command, parts[part]())
        (asked.out / f"clock_{part}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
