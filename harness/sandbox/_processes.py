"""Turns a freshly forked child into three processes, of which one is confined.

    A  the caller; waits, and reports how C ended. Killing A ends all three.
    B  the keeper; the first process of the new pid namespace, or else a subreaper. Prepares
       what C sees, reaps everything, and kills what C left behind.
    C  the only one that returns from ``confine_at``, confined.

The shape is the same at every level. It does not judge how C ended, nor limit how long it runs.

Faults and endings cannot be confused: until C has said that it is confined, everything that goes
wrong is a fault, and from then on nothing is.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import tempfile
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

from harness.sandbox import _landlock, _namespaces, _seccomp
from harness.sandbox import _syscalls as sys_
from harness.sandbox._limits import (
    apply_limits,
    close_all_but,
    drop_privileges,
    volunteer_for_oom,
)
from harness.sandbox._policy import Confinement, Level
from harness.sandbox._watch import kill_below

_READY, _FAULT, _STATUS = "ready", "fault ", "status "
_EXIT_FAULT = 125


def confine_at(confinement: Confinement, level: Level) -> Level:
    """Confines at exactly this level, or reports a fault; see ``confine``."""
    # A collection in A or B would run finalizers of objects that belong to the fork server.
    collecting = gc.isenabled()
    gc.disable()
    read_end, channel = -1, -1
    try:
        confinement = replace(confinement, workdir=confinement.workdir.resolve(strict=True))
        _leave_session()
        _reset_signals()
        read_end, channel = os.pipe()
        alive, alive_held_by_a = os.pipe()
        if level is Level.NAMESPACES:
            _namespaces.enter()
        keeper = os.fork()
        if keeper:
            _be_the_reporter(keeper, read_end, alive_held_by_a, confinement.status_fd, level)
    except BaseException as error:
        _report(confinement.status_fd, {"fault": _sentence(error)})
        os._exit(_EXIT_FAULT)

    try:
        _die_with_parent(alive, but_close=(alive_held_by_a,))
        own_proc = _prepare(confinement, level)
        alive, alive_held_by_b = os.pipe()
        child = os.fork()
        if child:
            _be_the_keeper(child, channel, alive_held_by_b, level)
        _die_with_parent(alive, but_close=(alive_held_by_b,))
        _settle_in(confinement, channel, read_end)
        _restrict(confinement, level, own_proc=own_proc)
        os.write(channel, f"{_READY}\n".encode())
        os.close(channel)
    except BaseException as error:
        os.write(channel, f"{_FAULT}{_sentence(error)}\n".encode())
        os._exit(_EXIT_FAULT)
    if collecting:
        gc.enable()
    return level


def _be_the_reporter(
    keeper: int, read_end: int, alive: int, status_fd: int, level: Level
) -> NoReturn:
    _keep_only(read_end, alive, status_fd)
    if sys_.LINUX:
        # Should B be killed, which is possible at LIMITS, what it kept falls to A.
        sys_.prctl(sys_.PR_SET_CHILD_SUBREAPER, 1)
    lines = _read_all(read_end).splitlines()
    _, keeper_status = os.waitpid(keeper, 0)
    if level is not Level.NAMESPACES:
        _end_descendants(everything=False)
    _report(status_fd, _outcome(lines, keeper_status))
    os._exit(0)


def _outcome(lines: list[str], keeper_status: int) -> dict[str, int | str]:
    for line in lines:
        if line.startswith(_FAULT):
            return {"fault": line.removeprefix(_FAULT)}
    statuses = [int(line.removeprefix(_STATUS)) for line in lines if line.startswith(_STATUS)]
    # Without a status, B was killed, and C with it by the same signal.
    code = os.waitstatus_to_exitcode(statuses[0] if statuses else keeper_status)
    if _READY not in lines:
        end = f"signal {-code}" if code < 0 else f"exit code {code}"
        return {"fault": f"the process ended with {end} before it was confined"}
    return {"signal": -code} if code < 0 else {"exit": code}


def _be_the_keeper(child: int, channel: int, alive: int, level: Level) -> NoReturn:
    _keep_only(channel, alive)
    status = None
    while status is None:
        pid, ended = os.waitpid(-1, 0)
        if pid == child:
            status = ended
    _end_descendants(everything=level is Level.NAMESPACES)
    os.write(channel, f"{_STATUS}{status}\n".encode())
    os._exit(0)


def _end_descendants(*, everything: bool) -> None:
    """Kills and reaps all descendants; ``everything`` is what pid 1 of a namespace can reach."""
    while True:
        if everything:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        else:
            kill_below(os.getpid())
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _prepare(confinement: Confinement, level: Level) -> bool:
    """Makes B ready to be C's parent; returns whether C must open its own part of /proc."""
    if level is Level.NAMESPACES:
        fresh = _namespaces.build_view(confinement)
        sys_.prctl(sys_.PR_SET_DUMPABLE, 0)
        return not fresh
    if sys_.LINUX:
        sys_.prctl(sys_.PR_SET_CHILD_SUBREAPER, 1)
    return False


def _settle_in(confinement: Confinement, channel: int, read_end: int) -> None:
    _leave_session()
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    if confinement.keep_fds is None:
        os.close(read_end)
        os.close(confinement.status_fd)
    else:
        close_all_but({0, 1, 2, channel, *confinement.keep_fds})
    workdir = str(confinement.workdir)
    os.chdir(workdir)
    os.environ.update(HOME=workdir, TMPDIR=workdir, TEMP=workdir, TMP=workdir, PWD=workdir)
    tempfile.tempdir = None


def _restrict(confinement: Confinement, level: Level, *, own_proc: bool) -> None:
    if not sys_.LINUX:
        apply_limits(confinement, own_users=False)
        return
    # Inherited from B. The CUDA driver reads its own maps, and names its own threads, through
    # files in /proc that belong to root while a process is not dumpable.
    sys_.prctl(sys_.PR_SET_DUMPABLE, 1)
    if own_proc:
        _namespaces.make_own_proc_writable()
    volunteer_for_oom()
    apply_limits(confinement, own_users=level is Level.NAMESPACES)
    drop_privileges()
    if level is Level.NAMESPACES and _landlock.abi():
        _landlock.restrict(confinement, private_view=True)
    elif level is Level.LANDLOCK:
        _landlock.restrict(confinement, private_view=False)
    _seccomp.refuse_calls()


def _die_with_parent(alive: int, *, but_close: tuple[int, ...]) -> None:
    # Only the parent holds the other end, so its death before this call shows as a hang-up; the
    # parent's pid would not tell, being 0 from inside a new pid namespace.
    for descriptor in but_close:
        os.close(descriptor)
    if sys_.LINUX:
        sys_.prctl(sys_.PR_SET_PDEATHSIG, signal.SIGKILL)
    hung_up = select.poll()
    hung_up.register(alive, select.POLLIN)
    if hung_up.poll(0):
        os._exit(_EXIT_FAULT)
    os.close(alive)


def _leave_session() -> None:
    with suppress(PermissionError):  # already the leader of a session of its own
        os.setsid()


def _reset_signals() -> None:
    """Drops the fork server's handlers: with one, C could interrupt even pid 1 of its namespace."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as Python has it: an OSError, not a death
        signal.signal(number, signal.SIG_IGN)


def _keep_only(*descriptors: int) -> None:
    """Lets go of everything else, so that who reads from C sees its end and nobody waits for us."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        if standard not in descriptors:
            os.dup2(null, standard)
    close_all_but({0, 1, 2, *descriptors})


def _read_all(descriptor: int) -> str:
    parts = []
    while part := os.read(descriptor, 4096):
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def _report(status_fd: int, outcome: dict[str, int | str]) -> None:
    with suppress(OSError):  # nobody listens any more
        os.write(status_fd, json.dumps(outcome).encode() + b"\n")


def _sentence(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return " ".join(f"the sandbox could not be set up: {text}".split())
