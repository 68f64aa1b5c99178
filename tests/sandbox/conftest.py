"""Real confined processes for the tests, each forked by a small process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.sandbox import Level, available

DRIVER = Path(__file__).with_name("driver.py")
LEVELS = [level for level in Level if available().at_least(level)]
FILE_LEVELS = [level for level in LEVELS if level is not Level.LIMITS]


@dataclass(frozen=True)
class Outcome:
    """How a confined process ended, and what it wrote."""

    report: dict[str, Any]
    caller: int
    stdout: str
    stderr: str

    @property
    def said(self) -> Any:
        """What the source printed, which has to have run to its end."""
        assert self.report == {"exit": 0}, (self.report, self.stderr)
        return json.loads(self.stdout)


class Running:
    """A confined process under way; ``pid`` is the process that called ``confine``."""

    def __init__(self, spec: dict[str, Any]) -> None:
        read_end, write_end = os.pipe()
        self.marker = spec["workdir"]
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), json.dumps(spec), str(write_end)],
            pass_fds=[write_end],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write_end)
        self._control = os.fdopen(read_end)
        self.pid: int = json.loads(self._control.readline() or "{}").get("pid", 0)
        if not self.pid:
            raise RuntimeError(self.process.communicate()[1])

    def line(self) -> str:
        """Waits for one line from the confined process."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def processes(self) -> list[int]:
        """All living processes of this sandbox and none else, however they were forked."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != self.process.pid and self.marker in " ".join(process.cmdline()):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def confined_pid(self) -> int:
        """The pid, seen from here, of the process in which the source runs."""
        (keeper,) = psutil.Process(self.pid).children()
        return int(keeper.children()[0].pid)

    def finish(self) -> Outcome:
        stdout, stderr = self.process.communicate(timeout=30)
        end = json.loads(self._control.readline())
        self._control.close()
        lines = end["report"].splitlines()
        assert len(lines) <= 1, lines
        report = json.loads(lines[0]) if lines else {}
        return Outcome(report, end["caller"], stdout, stderr)


Start = Callable[..., Running]
Run = Callable[..., Outcome]


@pytest.fixture
def start(workdir: Path) -> Iterator[Start]:
    """Starts a source text in a confined process; ends what a test left running."""
    started: list[Running] = []

    def begin(
        source: str,
        level: Level,
        *,
        before: str = "",
        after: str = "",
        hidden: tuple[Path, ...] = (),
        readable: tuple[Path, ...] | None = None,
        directory: Path = workdir,
        parameters: object = None,
        **confinement: object,
    ) -> Running:
        spec = {
            "source": source,
            "before": before,
            "after": after,
            "level": level,
            "workdir": str(directory),
            "hidden": [str(path) for path in hidden],
            "readable": None if readable is None else [str(path) for path in readable],
            "parameters": parameters,
            "confinement": confinement,
        }
        running = Running(spec)
        started.append(running)
        return running

    yield begin
    for running in started:
        for pid in running.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.process.kill()
        running.process.communicate()


@pytest.fixture
def run(start: Start) -> Run:
    """Runs a source text in a confined process to its end."""
    return lambda *args, **kwargs: start(*args, **kwargs).finish()


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A work directory below /tmp, the harder place for one: /tmp is private to the sandbox."""
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def outside() -> Iterator[Path]:
    """A directory that is ours but not the sandbox's, and not below /tmp either."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-test-", dir="/var/tmp"))
    (path / "victim").write_text("intact")
    yield path
    shutil.rmtree(path)


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether the condition becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
