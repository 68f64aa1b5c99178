"""The emulated device against a GPU: right kernels, seeded bugs, solutions, a real answer.

    python benchmarks/emulated.py OUT DEVICE [part …]

Parts: right bugs blind solutions real_answer (all by default).

DEVICE is ``emulated`` or ``cuda``. Writes ``emulated_<part>_<device>.json`` into OUT
(committed under ``benchmarks/results``), with the machine, the versions, the commit and the
command. Nothing is clocked: what is compared are verdicts.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from real_answer import variants
from spine import ROOT, record_of, say

from harness.devices import choose
from harness.emulation import preparation
from harness.pool import batch
from harness.records import Evaluation
from harness.settings import Settings

SETS = ROOT / "tests" / "emulation"


def gather(part: str, folder: Path) -> Path | None:
    """Put the candidates of a part into a folder; where their problems lie."""
    if part in ("right", "bugs", "blind"):
        for path in sorted((SETS / part).glob("*.py")):
            shutil.copy(path, folder)
        return SETS / "problems"
    if part == "solutions":
        for path in sorted((ROOT / "solutions").glob("*.py")):
            shutil.copy(path, folder / f"{path.stem}__solution.py")
        return None
    for name, text in variants().items():
        (folder / f"conv2d__{name}.py").write_text(text)
    return None


def judge(part: str, device: str) -> dict[str, Any]:
    """Judge a part in one batch with an empty cache."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "generations"
        folder.mkdir()
        problems = gather(part, folder)
        settings = Settings(cache_dir=Path(scratch) / "cache")
        begun = time.perf_counter()
        done = batch(
            folder,
            Path(scratch) / "run",
            problems=problems,
            device=device,
            clocked=False,
            settings=settings,
            watch=say,
        )
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        if device == "emulated":  # once more, with everything built
            batch(
                folder,
                Path(scratch) / "again",
                problems=problems,
                device=device,
                clocked=False,
                settings=settings,
            )
        cached_seconds = time.perf_counter() - begun
    return {
        "seconds": round(seconds, 1),
        "cached_seconds": round(cached_seconds, 1),
        "faults": [f.model_dump() for f in done.faults],
        "rows": [row(e) for e in done.evaluations],
    }


def row(evaluation: Evaluation) -> dict[str, Any]:
    """What is kept of an evaluation."""
    return {
        "generation": evaluation.generation.removesuffix(".py"),
        "verdict": evaluation.verdict,
        "stage": evaluation.stage,
        "trials": len(evaluation.trials),
        "seconds": {k.value: round(v, 3) for k, v in evaluation.stage_seconds.items()},
        "launches": evaluation.launches,
        "findings": [
            {
                "rule": f.rule,
                "severity": f.severity,
                "line": f.place.line if f.place else None,
                "message": f.message[:600],
                "advice": f.advice[:300],
            }
            for f in evaluation.findings
            if f.severity != "note"
        ],
    }


def prepared() -> dict[str, Any]:
    """What preparing the emulated device costs from nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        made = preparation.prepare(Path(scratch))
        seconds = time.perf_counter() - begun
        size = sum(f.stat().st_size for f in made.directory.iterdir())
    return {"seconds": round(seconds, 1), "bytes": size}


def main(out: Path, device: str, parts: list[str]) -> None:
    """Judge the parts and write a file for each."""
    out.mkdir(parents=True, exist_ok=True)
    for part in parts or ["solutions", "real_answer", "right", "bugs", "blind"]:
        command = f"emulated.py OUT {device} {part}"
        record = record_of(choose(device)[0], command, judge(part, device))
        if device == "emulated" and part == "solutions":
            record["prepared"] = prepared()
        (out / f"emulated_{part}_{device}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
