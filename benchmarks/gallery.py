"""The gallery judged in one batch: honest controls, flawed candidates and cheats.

    python benchmarks/gallery.py OUT DEVICE [--only WORD …] [--run FOLDER]

DEVICE is ``emulated`` or ``cuda``; on a GPU what passes is clocked. Writes ``gallery_DEVICE.json``
into OUT (committed under ``benchmarks/results``): of every entry what is expected, the verdict,
what decided, and seconds; then what the batch left behind: processes that descend from it, files
that the attacks mark their success with, and libraries in the cache that are not what was built.

With ``--only``, entries whose names hold one of the words are graded, and the file is
``gallery_DEVICE_again.json``. In the tables its entries take the place of those of the full run
that is committed, which it names (``over``). A later one does not add to it: name all that changed.

Exits with 1 where a verdict is not an expected one or something was left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from spine import ROOT, commit, say

from harness.build.artifacts import ArtifactStore
from harness.devices import choose
from harness.pool import batch
from harness.records import Evaluation
from harness.settings import Settings
from tests.gallery.expectations import CHEATS, FLAWED, HONEST, Entry, entry

MARKER = "kernel_harness_gallery_marker"
"""What attacks that get out of their sandbox leave behind, by name."""
PLACES = (Path("/tmp"), Path("/dev/shm"), Path("/var/tmp"), Path.home(), ROOT)
TAG = "KERNEL_HARNESS_GALLERY"
"""Every process of the batch inherits this variable."""


def judge(entries: list[Entry], device: str, run: Path | None = None) -> dict[str, Any]:
    """All entries in one batch, in an order that mixes honest and hostile."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch) / "generations", Path(scratch) / "cache"
        folder.mkdir()
        for one in entries:
            shutil.copy(one.path, folder)
        os.environ[TAG] = scratch
        begun = time.perf_counter()
        done = batch(
            folder,
            run or Path(scratch) / "run",
            device=device,
            settings=Settings(cache_dir=store),
            watch=say,
        )
        seconds = time.perf_counter() - begun
        left = aftermath(scratch)
        left += [f"in the cache: {path}" for path in ArtifactStore(store).spoilt()]
    evaluations = {Path(e.generation).stem: e for e in done.evaluations}
    return {
        "seconds": round(seconds, 1),
        "faults": [f.model_dump(mode="json") for f in done.faults],
        "left_behind": left,
        "rows": [row(one, evaluations.get(one.path.stem), device) for one in entries],
    }


def full_run(device: str) -> str | None:
    """The commit of the full run that is committed."""
    path = ROOT / "benchmarks" / "results" / f"gallery_{device}.json"
    return json.loads(path.read_text())["commit"] if path.exists() else None


def row(one: Entry, evaluation: Evaluation | None, device: str) -> dict[str, Any]:
    """One entry and what came of it."""
    expected = sorted(one.expected(device))
    made: dict[str, Any] = {
        "kind": one.kind,
        "candidate": one.path.stem,
        "known_as": one.known_as,
        "expected": expected,
        "verdict": "fault",
        "as_expected": False,
    }
    if evaluation is None:
        return made
    errors = [f for f in evaluation.findings if f.severity == "error"]
    return made | {
        "verdict": evaluation.verdict,
        "as_expected": evaluation.verdict in expected,
        "stage": evaluation.stage,
        "rule": errors[0].rule if errors else None,
        "why": errors[0].message[:400] if errors else None,
        "seconds": {k.value: round(v, 3) for k, v in evaluation.stage_seconds.items()},
        "speedups": {s.mode: round(s.speedup, 4) for s in evaluation.speedups},
        "sandbox": evaluation.policy.sandbox,
    }


def aftermath(tag: str) -> list[str]:
    """What the batch left behind on this machine."""
    found = [str(p) for place in PLACES for p in place.glob(f"{MARKER}*")]
    for process in psutil.process_iter(["name", "environ"]):
        inherited = (process.info["environ"] or {}).get(TAG) == tag
        if inherited and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append(f"process {process.pid} ({process.info['name']})")
    return found


def main() -> None:
    """Judge, write the result, and say what is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("device", choices=("emulated", "cuda"))
    parser.add_argument("--only", nargs="*", default=[], help="parts of entries' names")
    parser.add_argument("--run", type=Path, help="where every evaluation is kept")
    given = parser.parse_args()
    entries = [entry(path) for path in (*HONEST, *FLAWED, *CHEATS)]
    if given.only:
        names = {f"{e.kind}/{e.path.stem}": e for e in entries}
        entries = [e for name, e in names.items() if any(word in name for word in given.only)]
        if not entries:
            parser.error(f"no entry is named like {' or '.join(given.only)}")
    record: dict[str, Any] = {
        "device": choose(given.device)[0].model_dump(mode="json"),
        "host_cores": os.cpu_count(),
        "commit": commit(),
        "command": f"python benchmarks/gallery.py OUT {given.device}"
        + (f" --only {' '.join(given.only)}" if given.only else ""),
        "result": judge(entries, given.device, given.run),
    }
    if given.only:
        record["over"] = full_run(given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"gallery_{given.device}{'_again' if given.only else ''}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    result: Any = record["result"]
    wrong = [r for r in result["rows"] if not r["as_expected"]]
    for r in wrong:
        said = f"{r['verdict']}, not {'|'.join(r['expected'])}: {r.get('why')}"
        sys.stderr.write(f"{r['kind']}/{r['candidate']}: {said}\n")
    for left in result["left_behind"]:
        sys.stderr.write(f"left behind: {left}\n")
    sys.stderr.write(f"{len(result['rows']) - len(wrong)} of {len(result['rows'])} as expected\n")
    sys.exit(1 if wrong or result["left_behind"] else 0)


if __name__ == "__main__":
    main()
