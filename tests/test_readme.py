"""The README's tables are what the committed results say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def test_the_tables_are_made_from_the_results() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/tables.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_a_result_names_its_machine_versions_commit_and_command(path: Path) -> None:
    record = json.loads(path.read_text())
    assert {"name", "driver", "torch", "cuda"} <= set(record["device"])
    assert len(record["commit"]) == 40
    # A record by something that is not in the tree says so, and what it was.
    assert record["command"].startswith("python benchmarks/") or len(record["note"]) > 100
