"""Which level this machine offers, found by trying it, and what would raise it.

A probe confines a forked child for real and sees whether it gets through; no version is compared.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path

from harness.errors import UsageError
from harness.sandbox import _landlock
from harness.sandbox import _syscalls as sys_
from harness.sandbox._policy import Confinement, Level
from harness.sandbox._processes import confine_at


def available() -> Level:
    """The strongest level that works on this machine; found once per process, inherited by forks.

    Call it in the fork server before the first worker is forked. Never raises.
    """
    if _fault(Level.NAMESPACES) is None:
        return Level.NAMESPACES
    if _landlock.abi() >= _landlock.LEVEL_ABI and _fault(Level.LANDLOCK) is None:
        return Level.LANDLOCK
    return Level.LIMITS


def require(level: Level) -> None:
    """Have at least this level.

    Raises:
        UsageError: it does not work on this machine.
    """
    if level is not Level.LIMITS and not available().at_least(level):  # LIMITS always works
        raise UsageError(
            f"sandbox {level} is required, and this machine offers {available()}; "
            "kernel-harness doctor says how to raise it"
        )


def explain() -> list[str]:
    """Sentences for ``doctor``: the level, what is missing, and how to raise it."""
    level = available()
    if not sys_.LINUX:
        return [f"Sandbox level: {level}. Only Linux confines more than resources."]
    sentences = [f"Sandbox level: {level}."]
    if level is not Level.NAMESPACES:
        sentences += [f"Namespaces do not work here: {_fault(Level.NAMESPACES)}."]
        sentences += _why_no_namespaces()
    abi = _landlock.abi()
    if abi == 0:
        sentences.append(
            "Landlock is missing: it needs Linux 5.13 with CONFIG_SECURITY_LANDLOCK and 'landlock' "
            "in the kernel's lsm= list (see /sys/kernel/security/lsm); in a container, a seccomp "
            "profile that allows its system calls."
        )
    elif abi < _landlock.LEVEL_ABI:
        sentences.append(
            f"Landlock here is ABI {abi}, which cannot refuse truncation: level {Level.LANDLOCK} "
            f"needs ABI {_landlock.LEVEL_ABI} (Linux 6.2)."
        )
    if not _filters_calls():
        sentences.append("The kernel filters no system calls (CONFIG_SECCOMP_FILTER).")
    return sentences


def _why_no_namespaces() -> list[str]:
    reasons = []
    if _sysctl("user/max_user_namespaces") == "0":
        reasons.append("Allow user namespaces: sysctl -w user.max_user_namespaces=15000.")
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        reasons.append("Allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1.")
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        reasons.append(
            "AppArmor takes all rights from user namespaces (Ubuntu 23.10 and later): give this "
            "interpreter a profile with 'userns,', or run sysctl -w "
            "kernel.apparmor_restrict_unprivileged_userns=0."
        )
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        reasons.append(
            "This is a container: start it with a seccomp profile that allows unshare and mount "
            "(docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined)."
        )
    return reasons or ["The kernel must have CONFIG_USER_NS and CONFIG_PID_NS."]


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def _filters_calls() -> bool:
    try:
        return "Seccomp_filters" in Path("/proc/self/status").read_text()
    except OSError:
        return False


@cache
def _fault(level: Level) -> str | None:
    """What goes wrong at this level, None if nothing does."""
    if not sys_.LINUX:
        return "not Linux"
    try:
        with tempfile.TemporaryDirectory(prefix="sandbox-probe-") as directory:
            return _attempt(level, Path(directory).resolve())
    except Exception as error:
        return str(error) or type(error).__name__


def _attempt(level: Level, workdir: Path) -> str | None:
    read_end, status_fd = os.pipe()
    try:
        with warnings.catch_warnings():
            # Since Python 3.12, of forks beside other threads. The child runs only our own code.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                confine_at(Confinement(workdir=workdir, status_fd=status_fd), level)
                Path("probe").write_text("writable")
                os._exit(0)
            finally:
                os._exit(1)
        os.close(status_fd)
        status_fd = -1
        with open(read_end, "rb", closefd=False) as reports:
            outcome = json.loads(reports.read() or b'{"fault": "no report"}')
        os.waitpid(child, 0)
    finally:
        os.close(read_end)
        if status_fd >= 0:
            os.close(status_fd)
    return None if outcome == {"exit": 0} else str(outcome.get("fault", outcome))
