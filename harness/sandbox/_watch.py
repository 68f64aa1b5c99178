"""From outside: how much memory a worker's processes use, and how to end all of them.

The kernel offers no limit that fits. RLIMIT_AS breaks CUDA, which reserves addresses by the
terabyte, and memory cgroups need rights that an ordinary user lacks. So the supervisor polls
``tree_usage`` and kills what grew too large; something that fills memory between two polls is
left to the OOM killer, to which workers offer themselves first. Not seen: memory of unmapped
memfds, and of files in the private /tmp and /dev/shm, which have a size limit of their own.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.sandbox._syscalls import PR_SET_PDEATHSIG, prctl


@dataclass(frozen=True)
class Usage:
    """Memory and processes of a tree at one moment.

    Attributes:
        rss_bytes: Resident memory of their own, summed over the confined processes.
        processes: How many confined processes there are.
    """

    rss_bytes: int
    processes: int


def tree_usage(pid: int, *, exact: bool = False) -> Usage:
    """Sums over what runs confined below ``pid``, the process that called ``confine``.

    That process and its child, the keeper, are copies of the fork server and left out.

    Counts anonymous and shared memory but no mapped files, since torch's libraries are mapped by
    every process and belong to none. Memory that processes still share since their fork is
    counted in each: an upper bound, which ``exact`` replaces by each one's share (PSS). For that
    the kernel walks the page tables under the lock that the candidate's own allocations take, which
    disturbs its clock; the counters in ``/proc/<pid>/status`` cost one read.
    """
    total = processes = 0
    waiting = [confined for keeper in _children(pid) for confined in _children(keeper)]
    while waiting:
        current = waiting.pop()
        with suppress(OSError):  # ended meanwhile
            total += _share_of_memory(current) if exact else _own_memory(current)
            processes += 1
            waiting += _children(current)
    return Usage(rss_bytes=total, processes=processes)


def kill_tree(pid: int) -> None:
    """Kills ``pid`` and all its descendants, also those that fork while this runs.

    Descendants first: a process that outlives its parent can no longer be found from it. Under
    NAMESPACES plain SIGKILL to ``pid`` does the same; at the weaker levels it would leave
    processes that were forked twice.
    """
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    with suppress(psutil.NoSuchProcess):
        root.suspend()
    kill_below(pid)
    with suppress(psutil.NoSuchProcess):
        root.kill()


def kill_below(pid: int) -> None:
    """Kills all descendants of ``pid``: stops them, looks again, and kills when none is new."""
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    stopped: set[psutil.Process] = set()
    while True:
        with suppress(psutil.NoSuchProcess):
            found = set(root.children(recursive=True)) - stopped
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped |= found
            if found:
                continue
        break
    for process in stopped:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _own_memory(pid: int) -> int:
    total = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            total += int(line.split()[1]) * 1024
    return total


def _share_of_memory(pid: int) -> int:
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
            total += int(line.split()[1]) * 1024
    return total


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
            if not (task / "children").exists() and task.exists():
                raise FileNotFoundError("a kernel without CONFIG_PROC_CHILDREN")
    except FileNotFoundError:
        with suppress(psutil.NoSuchProcess):
            found = [child.pid for child in psutil.Process(pid).children()]
    return found


def die_with(parent: int) -> None:
    """Be killed when the parent dies; for a fresh child, which names the parent it expects."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(1)
