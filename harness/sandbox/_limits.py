"""Limits of one process and its descendants: rlimits, capabilities, and the OOM killer's choice.

No limit of memory: RLIMIT_AS breaks CUDA, which reserves far more addresses than it uses, and
RLIMIT_RSS does nothing; the supervisor polls ``tree_usage`` instead. No limit of the sum of all
files either: only each file's size is bounded.

RLIMIT_NPROC counts the processes of a *user*. It is set only where that means the processes of
this sandbox, in a user namespace on Linux 5.14 or later, and the kernel exempts root even there.
Linux 6.14 made ``pid_max`` a property of a pid namespace, which binds root too (``_namespaces``).
"""

from __future__ import annotations

import os
import platform
import resource
from contextlib import suppress
from pathlib import Path

from harness.sandbox import _syscalls as sys_
from harness.sandbox._policy import Confinement


def kernel_release() -> tuple[int, int]:
    """The kernel's version, (0, 0) where it cannot be told."""
    words = platform.release().split(".")
    digits = ["".join(c for c in word if c.isdigit()) for word in words[:2]]
    return (int(digits[0]), int(digits[1])) if len(digits) == 2 and all(digits) else (0, 0)


def apply_limits(confinement: Confinement, *, own_users: bool) -> None:
    """Sets all rlimits.

    Args:
        confinement: The values.
        own_users: Whether this process is in a user namespace of its own.
    """
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, confinement.file_bytes)
    _lower(resource.RLIMIT_NOFILE, confinement.open_files)
    if confinement.cpu_seconds is not None:
        # SIGXCPU first, which says why; a process that ignores it is killed a second later.
        _lower(resource.RLIMIT_CPU, confinement.cpu_seconds, grace=1)
    if own_users and kernel_release() >= (5, 14):
        _lower(resource.RLIMIT_NPROC, confinement.processes)


def drop_privileges() -> None:
    """Gives up all capabilities and the means to regain any, for good."""
    sys_.prctl(sys_.PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")
    sys_.drop_capabilities()


def volunteer_for_oom() -> None:
    """Makes the kernel prefer this process, and its children, when memory runs out."""
    with suppress(OSError):  # some containers keep /proc read-only; the watch still counts
        Path("/proc/self/oom_score_adj").write_text("1000")


def _lower(which: int, value: int, grace: int = 0) -> None:
    # The hard limit too: what the process may raise again is no limit. A hard limit that is
    # already lower stays, since only root may raise it and the tests run as anyone.
    _, hard = resource.getrlimit(which)
    most = value + grace if hard == resource.RLIM_INFINITY else min(value + grace, hard)
    try:
        resource.setrlimit(which, (min(value, most), most))
    except (OSError, ValueError) as error:
        raise OSError(f"setrlimit {which} to {value}: {error}") from error


def close_all_but(keep: set[int]) -> None:
    """Closes every descriptor that is not listed."""
    listing = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for descriptor in map(int, os.listdir(listing)):
        if descriptor not in keep:
            with suppress(OSError):  # the listing's own descriptor is gone already
                os.close(descriptor)
