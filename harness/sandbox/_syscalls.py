"""The system calls that Python 3.11 does not offer, through ctypes.

Each wrapper raises OSError naming the call. Linux on x86-64 and arm64; it decides nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from contextlib import suppress
from pathlib import Path

LINUX = sys.platform == "linux"
MACHINE = {"x86_64": "x86-64", "AMD64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}.get(
    platform.machine()
)

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000
MS_RELATIME = 0x20_0000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

# The same numbers on every architecture, as all calls added since Linux 5.1.
MOUNT_SETATTR = 442
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
SECCOMP = 317 if MACHINE == "x86-64" else 277

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_CAPABILITY_VERSION_3 = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(name: str, number: int, *arguments: int | bytes | None) -> int:
    """Makes the system call ``number``; ``name`` is for the error."""
    if MACHINE is None:
        raise OSError(38, f"{name}: unknown processor {platform.machine()}")
    converted = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    call = _libc.syscall
    call.restype = ctypes.c_long
    return _checked(name, call(ctypes.c_long(number), *converted))


def prctl(option: int, value: int = 0, name: str = "prctl") -> None:
    """Calls prctl with one argument; the remaining ones are zero, as newer options demand."""
    words = [ctypes.c_ulong(word) for word in (value, 0, 0, 0)]
    _checked(name, _libc.prctl(ctypes.c_int(option), *words))


def unshare(flags: int) -> None:
    """Moves this process, or its future children, into new namespaces."""
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def mount(
    source: str | None, target: Path, kind: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """Mounts, binds, or changes a mount, as the flags say."""
    _checked(
        f"mount {target}",
        _libc.mount(
            None if source is None else os.fsencode(source),
            os.fsencode(target),
            None if kind is None else kind.encode(),
            ctypes.c_ulong(flags),
            data.encode() or None,
        ),
    )


def mount_setattr_recursive(target: Path, attributes: int) -> None:
    """Sets mount attributes of a mount and all below it (Linux 5.12)."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, 0)
    path = os.fsencode(target)
    syscall(
        f"mount_setattr {target}", MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, attr, len(attr)
    )


def drop_capabilities() -> None:
    """Empties every capability set of this process, the bounding set where it is allowed to."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # not privileged, or past the last one this kernel knows
            break
    with suppress(OSError):  # a kernel without ambient capabilities has none to clear
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked("capset", _libc.capset(header, bytes(24)))


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
