"""A confined process reaches no other process, and nothing of it outlives the sandbox."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from harness.sandbox import Level, available, kill_tree

from .conftest import FILE_LEVELS, LEVELS, Run, Running, Start, eventually

needs_namespaces = pytest.mark.skipif(
    available() is not Level.NAMESPACES, reason="needs a pid namespace"
)

# Leaves a process that was forked twice, in a session of its own, deaf to polite signals.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        open('daemon', 'w').write('alive')
        os.rename('daemon', 'started')
        time.sleep(60)
    os._exit(0)
while not os.path.exists('started'):
    time.sleep(0.01)
"""


def end(running: Running, level: Level) -> None:
    """Ends a sandbox as a supervisor has to at that level."""
    if level is Level.NAMESPACES:
        os.kill(running.pid, signal.SIGKILL)
    else:
        kill_tree(running.pid)


@pytest.mark.parametrize("level", LEVELS)
def test_a_daemon_is_dead_once_the_end_is_reported(start: Start, level: Level) -> None:
    running = start(DAEMON, level)
    assert running.finish().report == {"exit": 0}
    assert running.processes() == []


@pytest.mark.parametrize("level", LEVELS)
def test_a_daemon_dies_when_its_sandbox_is_killed(start: Start, level: Level) -> None:
    running = start(DAEMON + "print(flush=True)\ntime.sleep(60)", level)
    running.line()
    assert len(running.processes()) == 4
    end(running, level)
    outcome = running.finish()
    assert outcome.caller == -signal.SIGKILL
    assert outcome.report == {}
    assert eventually(lambda: running.processes() == [])


@pytest.mark.parametrize("level", LEVELS)
def test_killing_the_caller_ends_the_confined_process(start: Start, level: Level) -> None:
    running = start("import time; print(flush=True); time.sleep(60)", level)
    running.line()
    os.kill(running.pid, signal.SIGKILL)
    assert running.finish().caller == -signal.SIGKILL
    assert eventually(lambda: running.processes() == [])


@pytest.mark.parametrize("level", LEVELS)
def test_a_fork_bomb_ends(start: Start, level: Level) -> None:
    bomb = """
import os, time
for _ in range(6):
    os.fork()
if os.getpid() == parameters or True:
    os.write(1, b'x\\n')
time.sleep(60)
"""
    running = start(bomb, level)
    for _ in range(64):
        running.line()
    end(running, level)
    running.finish()
    assert eventually(lambda: running.processes() == [])


@needs_namespaces
def test_the_number_of_processes_is_limited(run: Run) -> None:
    source = """
import json, os, time
children = []
try:
    while len(children) < 600:
        child = os.fork()
        if child == 0:
            time.sleep(60)
        children.append(child)
except OSError:
    pass
print(json.dumps(len(children)))
"""
    release = tuple(map(int, os.uname().release.split(".")[:2]))
    if release < (6, 14) and os.geteuid() == 0:
        pytest.skip("this kernel limits no processes of root")
    before = Path("/proc/sys/kernel/pid_max").read_text()
    assert 300 < run(source, Level.NAMESPACES, processes=320).said <= 320
    assert Path("/proc/sys/kernel/pid_max").read_text() == before


ENDINGS = {
    "returning": ("pass", {"exit": 0}),
    "an exception": ("1 / 0", {"exit": 1}),
    "an exit code": ("import os; os._exit(7)", {"exit": 7}),
    "a quiet exit": ("import os; os._exit(0)", {"exit": 0}),
    "a segmentation fault": ("import ctypes; ctypes.string_at(0)", {"signal": signal.SIGSEGV}),
    "abort": ("import os; os.abort()", {"signal": signal.SIGABRT}),
    "killing itself": (
        "import os; os.kill(os.getpid(), 9); import time; time.sleep(9)",
        {"signal": signal.SIGKILL},
    ),
    "an exit code that looks like a signal": ("import os; os._exit(137)", {"exit": 137}),
    "too much processor time": ("while True: pass", {"signal": signal.SIGXCPU}),
}


@pytest.mark.parametrize("level", LEVELS)
def test_the_end_is_reported_as_it_was(start: Start, tmp_path: Path, level: Level) -> None:
    started = {}
    for number, (name, (source, _)) in enumerate(ENDINGS.items()):
        directory = tmp_path / str(number)
        directory.mkdir()
        started[name] = start(source, level, directory=directory, cpu_seconds=1)
    outcomes = {name: running.finish() for name, running in started.items()}
    expected = {name: report for name, (_, report) in ENDINGS.items()}
    assert {name: outcome.report for name, outcome in outcomes.items()} == expected
    assert {outcome.caller for outcome in outcomes.values()} == {0}


@pytest.mark.parametrize("level", LEVELS)
def test_a_child_ending_first_is_not_mistaken_for_the_process(run: Run, level: Level) -> None:
    source = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        os._exit(3)  # an orphan soon, reaped by the keeper
    os._exit(4)
time.sleep(0.2)
os._exit(5)
"""
    assert run(source, level).report == {"exit": 5}


@pytest.mark.parametrize("level", LEVELS)
def test_a_broken_request_is_a_fault_and_runs_nothing(
    run: Run, tmp_path: Path, level: Level
) -> None:
    outcome = run("print('ran')", level, directory=tmp_path / "absent")
    assert "absent" in outcome.report["fault"]
    assert outcome.stdout == ""


@needs_namespaces
def test_a_mechanism_that_fails_later_is_a_fault_and_runs_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = run("print('ran')", Level.NAMESPACES, hidden=(tmp_path / "file",))
    assert "only directories can be hidden" in outcome.report["fault"]
    assert outcome.stdout == ""


@pytest.mark.parametrize("level", LEVELS)
def test_the_process_cannot_forge_its_report(run: Run, level: Level) -> None:
    source = """
import os
for descriptor in range(3, 64):
    try:
        os.write(descriptor, b'{"exit": 0}\\n')
    except OSError:
        pass
os._exit(9)
"""
    assert run(source, level, before="keep = []").report == {"exit": 9}


REACH = """
import ctypes, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
reached = []
def attempt(name, call):
    try:
        if call() not in (-1, None):
            reached.append(name)
    except OSError:
        pass
for who, pid in parameters.items():
    attempt(who + ' signal', lambda: os.kill(pid, 0) or True)
    attempt(who + ' group', lambda: os.killpg(pid, 0) or True)
    attempt(who + ' attach', lambda: libc.ptrace(PTRACE_ATTACH, pid, None, None))
    attempt(who + ' seize', lambda: libc.ptrace(PTRACE_SEIZE, pid, None, None))
    attempt(who + ' memory', lambda: open(f'/proc/{pid}/mem', 'rb').fileno())
    attempt(who + ' environment', lambda: open(f'/proc/{pid}/environ').read() or None)
    attempt(who + ' descriptors', lambda: os.readlink(f'/proc/{pid}/fd/1'))
    attempt(who + ' root', lambda: os.listdir(f'/proc/{pid}/root/'))
    attempt(who + ' pidfd', lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 0) or True)
print(json.dumps(reached))
"""


@pytest.mark.parametrize("level", LEVELS)
def test_no_other_process_can_be_reached(start: Start, tmp_path: Path, level: Level) -> None:
    directory = tmp_path / "sibling"
    directory.mkdir()
    sibling = start("import time; print(flush=True); time.sleep(60)", level, directory=directory)
    sibling.line()
    others = {
        "the supervisor": os.getpid(),
        "the fork server": sibling.process.pid,
        "a sibling's caller": sibling.pid,
        "a sibling": sibling.confined_pid(),
    }
    reached = start(REACH, level, parameters=others).finish().said
    if level is Level.LIMITS:
        # The same user may send signals, and at this level look at processes like itself.
        weak = ("signal", "group", "pidfd", "environment", "memory", "descriptors", "root")
        reached = [what for what in reached if not what.endswith(weak)]
    assert reached == []


@pytest.mark.parametrize("level", FILE_LEVELS)
def test_its_own_keeper_cannot_be_reached(run: Run, level: Level) -> None:
    source = REACH.replace("parameters.items()", "{'the keeper': os.getppid()}.items()")
    assert run(source, level).said == []


@needs_namespaces
def test_the_keeper_cannot_be_interrupted(run: Run) -> None:
    source = """
import os, signal, time
for number in signal.valid_signals():
    for pid in (1, -1):
        try:
            os.kill(pid, number) if pid == 1 else None
        except OSError:
            pass
time.sleep(0.1)
os._exit(6)
"""
    before = "import signal; signal.signal(signal.SIGTERM, lambda *_: None)"
    assert run(source, Level.NAMESPACES, before=before).report == {"exit": 6}


@needs_namespaces
def test_only_its_own_processes_are_seen(run: Run) -> None:
    source = "import json, os; print(json.dumps([p for p in os.listdir('/proc') if p.isdigit()]))"
    assert run(source, Level.NAMESPACES).said == ["1", "2"]


@pytest.mark.parametrize("level", LEVELS)
def test_no_nested_namespaces(run: Run, level: Level) -> None:
    source = """
import ctypes, json, os
libc = ctypes.CDLL(None)
CLONE_NEWUSER, SIGCHLD, CLONE = 0x10000000, 17, {'x86_64': 56}.get(os.uname().machine, 220)
def clone():
    child = libc.syscall(CLONE, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return child
print(json.dumps([libc.unshare(CLONE_NEWUSER), clone()]))
"""
    assert run(source, level).said == [-1, -1]


@pytest.mark.parametrize("level", LEVELS)
def test_what_the_supervisor_sees_is_what_runs(start: Start, level: Level) -> None:
    running = start("import time; print(level, flush=True); time.sleep(60)", level)
    assert running.line() == level
    children = psutil.Process(running.pid).children(recursive=True)
    assert running.confined_pid() in [child.pid for child in children]


def test_the_report_is_json_of_one_line(run: Run) -> None:
    outcome = run("pass", LEVELS[0])
    assert json.dumps(outcome.report) == '{"exit": 0}'
