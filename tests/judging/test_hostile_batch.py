"""Ten hostile candidates among five honest ones, in one batch that is killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.judging.conftest import EXAMPLES, HOSTILE, ROOT, expectation

KILL_AFTER = 5


@pytest.fixture(scope="module")
def generations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of fifteen answers to relu."""
    folder = tmp_path_factory.mktemp("generations")
    for path in HOSTILE.glob("*.py"):
        shutil.copy(path, folder / f"hostile_{path.name}")
    honest = (EXAMPLES / "cpp" / "relu__right.md").read_text()
    for number, before in enumerate("adfip"):
        # Spread over the names of the others, as honest ones must stand it to follow an attack.
        (folder / f"hostile_{before}_honest.md").write_text(f"{honest}\nSample {number}.\n")
    return folder


def start(generations: Path, run: Path) -> subprocess.Popen[bytes]:
    """The batch, as a user starts it."""
    arguments = ["batch", str(generations), "--problem", "relu", "--device", "cpu", "-o", str(run)]
    arguments.append("--no-clock")  # the samples are clocked elsewhere
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=ROOT,
        env=os.environ | {"KERNEL_HARNESS_CALL_SECONDS": "10"},  # one loops until it is ended
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def lines(run: Path) -> list[dict[str, object]]:
    """The whole lines of a run's records."""
    path = run / "evaluations.jsonl"
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


def harness_processes() -> list[psutil.Process]:
    """Every process that the fork server is, or was forked from it."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        environ = process.info["environ"] or {}
        mine = environ.get("KERNEL_HARNESS_CACHE_DIR") == os.environ["KERNEL_HARNESS_CACHE_DIR"]
        if mine and "harness.forkserver" in (process.info["cmdline"] or []):
            found.append(process)
    return found


def wait_until_gone(seconds: float) -> list[psutil.Process]:
    """What is still there after a while."""
    deadline = time.monotonic() + seconds
    while (left := harness_processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.mark.timeout(560)
def test_hostile_and_honest_candidates_each_get_their_verdict_even_if_the_batch_is_killed(
    generations: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = start(generations, run)
    while len(lines(run)) < KILL_AFTER:
        assert first.poll() is None, first.stderr.read().decode() if first.stderr else ""
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not wait_until_gone(15), "processes outlive a harness that was killed"
    before = lines(run)
    # What a kill in the middle of a write leaves behind.
    with (run / "evaluations.jsonl").open("ab") as file:
        file.write(b'{"schema_version": 1, "generati')

    second = start(generations, run)
    _, errors = second.communicate(timeout=500)
    assert second.returncode == 0, errors.decode()
    after = lines(run)
    assert after[: len(before)] == before, "a resumed run changes what was there"
    names = [str(record["generation"]) for record in after]
    assert sorted(names) == sorted(p.name for p in generations.iterdir()), "lost or doubled"

    wrong = {}
    for record in after:
        name = str(record["generation"])
        source = (generations / name).read_text()
        expected = expectation(source) if name.endswith(".py") else "passed"
        if record["verdict"] != expected:
            wrong[name] = (expected, record["verdict"], record["findings"])
    assert not wrong
    assert not wait_until_gone(15), "processes outlive the batch"
    assert not list(Path(os.environ["TMPDIR"]).iterdir()), "work directories remain"
    flood = next(r for r in after if "million" in str(r["generation"]))
    assert len(json.dumps(flood)) < 200_000, "output of a candidate swells its record"


def test_an_interrupted_batch_ends_at_once_says_how_to_go_on_and_leaves_nothing_running(
    generations: Path, tmp_path: Path
) -> None:
    batch = start(generations, tmp_path / "run")
    deadline = time.monotonic() + 60
    while not harness_processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)
    begun = time.monotonic()
    os.kill(batch.pid, signal.SIGINT)
    _, said = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert b"interrupted" in said and str(tmp_path / "run").encode() in said.replace(b"\n", b"")
    assert time.monotonic() - begun < 20
    assert not wait_until_gone(15)
    assert not list(Path(os.environ["TMPDIR"]).iterdir()), "work directories remain"
