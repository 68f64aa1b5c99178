"""What the GPU's counters say of the conv2d solution's kernels: which of its parts are busy.

    python benchmarks/convolution_counters.py OUT

Runs the training steps of the largest convolutions under Nsight Compute (``ncu`` must be found, and
may read the counters) and writes ``convolutions_counters.json`` into OUT. The solution should have
been built before (``convolutions.py OUT passes``). Clocks are left as they are, and every kernel is
run several times, the caches flushed before each; so times are not those of a step.

Does not: clock (``convolutions.py OUT clock`` does).
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from convolutions import LARGEST
from spine import record_of

from harness.devices import choose

KERNELS = "range_kernel|pack_image_kernel|correlation_kernel|weight_gradient_kernel"
A_STEP = ("range", "pack", "range", "y", "range", "pack", "range", "dx", "dw")
"""What they do, in the order of a training step: x, w, y; dy, w, dx; dw."""
METRICS = {
    "gpu__time_duration.sum": "microseconds",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed": "tensor_cores",
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": "memory",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": "l2",
    "l1tex__throughput.avg.pct_of_peak_sustained_active": "l1_and_shared_memory",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "instruction_issue",
}
"""Counters and what they are called here; all but the time are per cent of the peak."""
UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "%": 1.0}
"""Microseconds, or per cent, in a unit of Nsight Compute's."""


def counted(out: Path) -> list[dict[str, str]]:
    """Nsight Compute's rows, one for each launch, in order; the first one holds the units."""
    script = Path(__file__).with_name("convolutions.py")
    command = ["ncu", "--csv", "--page", "raw", "--clock-control", "none"]
    command += ["--kernel-name", f"regex:{KERNELS}", "--metrics", ",".join(METRICS)]
    done = subprocess.run(
        [*command, sys.executable, str(script), str(out), "steps"],
        check=False,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if done.returncode or not lines:
        raise SystemExit(f"ncu counted nothing: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return list(csv.DictReader(lines))


def row(shape: str, precision: str, what: str, found: dict[str, str], units: dict[str, str]) -> Any:
    """One launch."""
    name = re.sub(r"<unnamed>::|^void |\(.*", "", found["Kernel Name"])
    values = {
        called: float(found[metric].replace(",", "")) * UNITS[units[metric]]
        for metric, called in METRICS.items()
    }
    return {"shape": shape, "precision": precision, "what": what, "kernel": name, **values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    units, *launches = counted(asked.out)
    steps = [(shape, precision) for shape in LARGEST for precision in ("tf32", "fp32")]
    if len(launches) != len(steps) * len(A_STEP):
        raise SystemExit(f"{len(launches)} launches are not {len(steps)} steps of {len(A_STEP)}")
    parts = [(*step, what) for step in steps for what in A_STEP]
    rows = [row(*part, found, units) for part, found in zip(parts, launches)]
    record = record_of(choose("cuda")[0], "convolution_counters.py OUT", {"rows": rows})
    text = json.dumps(record, indent=1) + "\n"
    (asked.out / "convolutions_counters.json").write_text(text)
    for one in rows:
        print(*(f"{v:.1f}" if isinstance(v, float) else v for v in one.values()))


if __name__ == "__main__":
    main()
