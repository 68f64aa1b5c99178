"""The pipeline for real: devices that fall ill, leases of others, and problems that fail.

The candidate used here needs no build and ends early: it reaches a device, and costs it little.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from harness.devices import Gpu
from harness.errors import DeviceFault
from harness.generation import Generation
from harness.grader import Grader
from harness.mapping import Task
from harness.pool import station
from harness.pool.events import Event, Kind
from harness.pool.pipeline import Pipeline
from harness.problems import ProblemFile, find
from harness.records import Stage, Verdict
from harness.settings import Settings
from harness.store import Fault, Run
from harness.supervisor import ForkServer
from tests import children

RAISES = """\
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

source = "torch::Tensor same(torch::Tensor x) { return x; }"


class ModelNew(nn.Module):
    def __init__(self, *args):
        super().__init__()
        raise ValueError("sample NUMBER cannot be made")

    def forward(self, x):
        return x
"""
LATE = RAISES.replace('raise ValueError("sample NUMBER cannot be made")', "pass").replace(
    "return x\n",
    'return load_inline(name="late", cpp_sources=[source], functions=["same"]).same(x)\n',
)
SAME = "torch::Tensor same"
HOLD = """
import sys, time
from pathlib import Path
from harness.devices import Gpu, lease
with lease(Gpu(0, "A GPU", sys.argv[2], "580.00", (9, 0), 80 << 30), Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""
BARE = """\
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)

def get_inputs():
    return [torch.rand(33, 7)]

def get_init_inputs():
    return []
"""


class Bench:
    """Some graders of the CPU in one pipeline, with a run of its own."""

    def __init__(self, folder: Path, count: int, stack: ExitStack) -> None:
        self.settings = Settings(build_jobs=2, clock_seconds=0.1)
        self.events: list[Event] = []
        self.run = Run(folder / "run")
        stack.callback(self.run.close)
        server = ForkServer.start()
        stack.callback(server.close)
        self.graders = [
            stack.enter_context(Grader("cpu", settings=self.settings, clocked=False, server=server))
            for _ in range(count)
        ]

    def judge(
        self, problems: list[ProblemFile], *, samples: int, first: str | None = None
    ) -> list[Fault]:
        """Judge so many samples of each problem, after another answer to the first one."""
        work = []
        if first is not None:
            other = Generation("first", first)
            work.append((Task(Path("first"), "first", problems[0], {}), other))
        for problem in problems:
            for number in range(samples):
                name = f"{problem.name}/{number}.py"
                generation = Generation(name, RAISES.replace("NUMBER", str(number)))
                work.append((Task(Path(name), name, problem, {}), generation))
        return Pipeline(self.graders, self.settings, self.run, self.events.append).work(work)

    def told(self, kind: Kind) -> list[Event]:
        """The events of a kind."""
        return [e for e in self.events if e.kind is kind]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[[int], Bench]]:
    """Makes a bench of so many devices."""
    with ExitStack() as stack:
        yield lambda count: Bench(tmp_path, count, stack)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device is looked at as often as ever, and at shorter intervals."""
    assert len(station._PAUSES) == 3
    monkeypatch.setattr(station, "_PAUSES", (0.0, 0.1, 0.3))


@contextmanager
def assassin(*victims: Grader) -> Iterator[None]:
    """Kills the oracles of some graders whenever there are any."""
    over = threading.Event()

    def kill() -> None:
        killed = set()
        while not over.wait(0.01):
            for grader in victims:
                oracle = grader._oracle.oracle
                if oracle is not None and oracle not in killed:
                    killed.add(oracle)
                    with suppress(ProcessLookupError):
                        os.kill(oracle.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_device_whose_oracles_die_is_taken_out_and_the_other_judges_everything(
    bench: Callable[[int], Bench], impatient: None
) -> None:
    made = bench(2)
    with assassin(made.graders[0]):
        faults = made.judge([find("relu"), find("softmax")], samples=4)
    assert not faults
    assert Counter(e.verdict for e in made.run.evaluations) == {Verdict.RUNTIME_ERROR: 8}
    assert len({e.generation for e in made.run.evaluations}) == 8
    (lost,) = made.told(Kind.DEVICE_LOST)
    assert "oracle" in lost.text
    (session,) = made.run.sessions
    assert [one.reason for one in session.devices_lost] == [lost.text]
    assert [use.judged for use in session.devices] == [0, 8]
    handed_back = [e for e in made.run.evaluations if e.device_wait_seconds > 0]
    assert handed_back


def test_with_no_device_left_every_generation_is_a_fault_and_nothing_hangs(
    bench: Callable[[int], Bench], impatient: None
) -> None:
    made = bench(2)
    begun = time.monotonic()
    with assassin(*made.graders):
        faults = made.judge([find("relu")], samples=6)
    assert time.monotonic() - begun < 100
    assert len(faults) == 6
    assert not made.run.evaluations
    assert len(made.told(Kind.DEVICE_LOST)) == 2
    assert all("device" in fault.text and "\n" not in fault.text for fault in faults)
    assert len(made.run.sessions[0].devices_lost) == 2


def test_a_device_that_another_harness_holds_is_waited_for_in_words_while_others_judge(
    bench: Callable[[int], Bench],
) -> None:
    made = bench(2)
    held = Gpu(0, "A GPU", "GPU-held-by-a-test", "580.00", (9, 0), 80 << 30)
    made.graders[0]._gpu = held
    with children.start(HOLD, made.settings.cache_dir / "leases", held.uuid) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        faults = made.judge([find("relu")], samples=4)
        holder.kill()
    assert not faults
    assert len(made.run.evaluations) == 4
    (waiting,) = made.told(Kind.WAITING)
    assert waiting.text == "waiting for cuda:0, which another harness holds"
    (session,) = made.run.sessions
    assert not session.devices_lost
    assert session.devices[0].leased_seconds > 0


def test_a_problem_that_kills_every_oracle_takes_no_device_out(
    bench: Callable[[int], Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its candidates are to blame, or we are: the devices judge our own reference as before."""
    deadly, control = tmp_path / "deadly.py", tmp_path / "control.py"
    control.write_text(BARE)
    monkeypatch.setattr(station, "_CONTROL", str(control))  # the shipped one takes 15 s to clock
    suicide = "import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)"
    deadly.write_text(BARE.replace("return [torch.rand(33, 7)]", suicide))
    made = bench(2)
    faults = made.judge([ProblemFile.read(deadly), find("relu")], samples=3)
    assert not made.told(Kind.DEVICE_LOST), made.told(Kind.DEVICE_LOST)
    assert sorted(f.generation for f in faults) == [f"deadly/{n}.py" for n in range(3)]
    assert all("the oracle died" in fault.text for fault in faults)
    assert len(made.run.evaluations) == 3


def test_what_is_recorded_accounts_for_the_whole_time(bench: Callable[[int], Bench]) -> None:
    made = bench(1)
    made.judge([find("relu")], samples=3)
    for evaluation in made.run.evaluations:
        known = sum(evaluation.stage_seconds.values()) + evaluation.other_seconds
        known += evaluation.builder_wait_seconds + evaluation.device_wait_seconds
        assert known == pytest.approx(evaluation.wall_seconds)
        assert {Stage.EXTRACT, Stage.BUILD, Stage.INTERFACE} <= set(evaluation.stage_seconds)
    (session,) = made.run.sessions
    (use,) = session.devices
    assert use.judged == session.ended == 3
    assert 0 < use.busy_seconds + use.waiting_seconds <= session.wall_seconds + 1


def test_a_healthy_device_passes_its_examination_and_a_dead_oracle_does_not() -> None:
    with Grader("cpu") as grader:
        grader.examine()
        with assassin(grader), pytest.raises(DeviceFault, match="oracle"):
            grader.examine()
        grader.examine()


def test_a_build_that_is_asked_for_only_on_the_device_keeps_no_device_waiting(
    bench: Callable[[int], Bench],
) -> None:
    made = bench(1)
    never_built_before = LATE.replace(SAME, f"// {secrets.token_hex()}\\n{SAME}")
    faults = made.judge([find("relu")], samples=8, first=never_built_before)
    assert not faults
    *others, late = made.run.evaluations
    assert (late.generation, late.verdict) == ("first", Verdict.WRONG_VALUES)
    assert {e.verdict for e in others} == {Verdict.RUNTIME_ERROR}
    assert late.stage_seconds[Stage.BUILD] > 1
