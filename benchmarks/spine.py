"""What the harness says on a GPU: solutions, samples, hostile candidates, precision.

    python benchmarks/spine.py OUT [part …]      parts: verdicts precision real_answer

Writes one JSON file per part into OUT (committed under ``benchmarks/results``), with the
machine, the versions, the commit and the command. Needs an NVIDIA GPU and nvcc.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from real_answer import variants

from harness.devices import choose
from harness.generation import Generation
from harness.grader import Grader
from harness.mapping import read_manifest
from harness.pool import batch
from harness.problems import find
from harness.records import Device, Evaluation, GradientPolicy
from harness.settings import Settings
from tests.solutions.convolution import SOLUTION, rounded

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS = ("conv2d", "relu", "softmax", "matmul", "layer_norm")
SETTINGS = Settings(clock_seconds=3.0)


def verdicts() -> dict[str, Any]:
    """Solutions, samples and hostile candidates in one batch: expected against actual."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "generations"
        folder.mkdir()
        expected = gather(folder)
        begun = time.perf_counter()
        done = batch(folder, Path(scratch) / "run", device="cuda", settings=SETTINGS, watch=say)
        seconds = time.perf_counter() - begun
    rows = [row(e, expected[e.generation]) for e in done.evaluations]
    return {
        "seconds": round(seconds, 1),
        "generations": len(rows),
        "as_expected": sum(r["expected"] == r["verdict"] for r in rows),
        "faults": [f.model_dump() for f in done.faults],
        "rows": rows,
    }


def gather(folder: Path) -> dict[str, str]:
    """Copy everything into one directory with a manifest; the expected verdicts by name."""
    files: dict[str, dict[str, str]] = {}
    expected: dict[str, str] = {}
    for problem in PROBLEMS:
        name = f"{problem}__solution.py"
        shutil.copy(ROOT / "solutions" / f"{problem}.py", folder / name)
        files[name], expected[name] = {"problem": problem}, "passed"
    samples = ROOT / "examples" / "generations" / "cuda"
    for name, entry in read_manifest(samples).items():
        shutil.copy(samples / name, folder / name)
        files[name], expected[name] = {"problem": entry["problem"]}, entry["expected"]["cuda"]
    for path in sorted((ROOT / "tests" / "hostile" / "cuda").glob("*.py")):
        name = f"hostile_{path.name}"
        shutil.copy(path, folder / name)
        files[name] = {"problem": "relu"}
        expected[name] = path.read_text().splitlines()[0].removeprefix("# expect:").strip()
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    return expected


def precision() -> dict[str, Any]:
    """The exact fp32 convolution passes; one that rounds its operands must not."""
    problem = find("conv2d")
    variants = {
        "fp32": SOLUTION.read_text(),
        "bf16_operands": rounded("bfloat16"),
        "fp16_operands": rounded("float16"),
    }
    found = {}
    with Grader(
        "cuda", settings=SETTINGS, clocked=False, gradients=GradientPolicy.REQUIRED
    ) as grader:
        for name, text in variants.items():
            found[name] = row(grader.grade(Generation(name, text), problem), "")
    return found


def real_answer() -> dict[str, Any]:
    """A real model answer, repaired one flaw at a time."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "generations"
        folder.mkdir()
        for name, text in variants().items():
            (folder / f"{name}.py").write_text(text)
        run = Path(scratch) / "run"
        done = batch(
            folder,
            run,
            problem="conv2d",
            device="cuda",
            settings=SETTINGS,
            clocked=False,
            watch=say,
        )
    return {"rows": [row(e, "") for e in done.evaluations]}


def row(evaluation: Evaluation, expected: str) -> dict[str, Any]:
    """What is kept of an evaluation."""
    conv = [c for t in evaluation.trials if t.case == "headline" for c in t.comparisons]
    return {
        "generation": evaluation.generation,
        "expected": expected,
        "verdict": evaluation.verdict,
        "stage": evaluation.stage,
        "sandbox": evaluation.policy.sandbox,
        "trials": len(evaluation.trials),
        "passed_trials": sum(t.passed for t in evaluation.trials),
        "seconds": {k.value: round(v, 3) for k, v in evaluation.stage_seconds.items()},
        "findings": [
            {"rule": f.rule, "severity": f.severity, "message": f.message[:400]}
            for f in evaluation.findings
        ],
        "speedups": [s.model_dump(mode="json") for s in evaluation.speedups],
        "headline_errors": [
            {
                "tensor": c.tensor,
                "relative_l2": c.error.relative_l2,
                "reference": c.reference_error.relative_l2,
                "budget": c.budget.relative_l2,
            }
            for c in conv
        ],
    }


def say(event: Any) -> None:
    """One line per event, for whoever watches."""
    verdict = event.evaluation.verdict if event.evaluation else event.text[:300]
    sys.stderr.write(f"{event.kind:9} {verdict} {event.name}\n")


def commit() -> str:
    """The commit that was measured."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return os.environ.get("COMMIT") or done.stdout.strip()


def record_of(device: Device, command: str, result: dict[str, Any]) -> dict[str, Any]:
    """A result with the machine, the commit and the command that measured it."""
    return {
        "device": device.model_dump(mode="json"),
        "host_cores": os.cpu_count(),
        "commit": commit(),
        "command": f"python benchmarks/{command}",
        "result": result,
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "verdicts": verdicts,
    "precision": precision,
    "real_answer": real_answer,
}


def main(out: Path, parts: list[str]) -> None:
    """Run the parts and write a file for each."""
    device, _ = choose("cuda")
    for part in parts or list(PARTS):
        record = record_of(device, f"spine.py OUT {part}", PARTS[part]())
        out.mkdir(parents=True, exist_ok=True)
        (out / f"spine_{part}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
