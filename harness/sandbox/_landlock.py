"""Landlock: an unprivileged process gives up access to files, sockets and other processes.

Everything is refused except what is granted here by path. Not covered, because Landlock does not
handle it: ``stat``, ``chmod``, ``chown`` and times of existing files, connecting to a Unix socket
that has a path, UDP; and before ABI 3 (Linux 6.2) truncation, which is why the *level* LANDLOCK
asks for ABI 3, while NAMESPACES adds whatever the kernel has.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from harness.sandbox import _syscalls as sys_
from harness.sandbox._policy import PLAIN_NODES, Confinement, existing, gpu_nodes

LEVEL_ABI = 3

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_EVERYTHING = (1 << 16) - 1
_DEVICE = _READ_FILE | _WRITE_FILE | _READ_DIR | _TRUNCATE | _IOCTL_DEV
_WRITE = _WRITE_FILE | _TRUNCATE

_TCP_BIND_AND_CONNECT = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
_QUERY_VERSION = 1
_RULE_PATH_BENEATH = 1
# Refusals go to the audit log since ABI 7, where a hostile process could flood it.
_LOG_SAME_EXEC_OFF = 1


def abi() -> int:
    """The Landlock ABI of this kernel; 0 without Landlock."""
    if not sys_.LINUX:
        return 0
    try:
        return sys_.syscall("landlock", sys_.LANDLOCK_CREATE_RULESET, None, 0, _QUERY_VERSION)
    except OSError:
        return 0


def restrict(confinement: Confinement, *, private_view: bool) -> None:
    """Restricts this process and its descendants, for good. Needs no_new_privs.

    Args:
        confinement: What to grant.
        private_view: Whether /proc, /tmp, /dev and hidden paths are those of ``_namespaces``.
    """
    version = abi()
    handled = _RIGHTS_BY_ABI[max(known for known in _RIGHTS_BY_ABI if known <= version)]
    words = [handled]
    if version >= 4:
        words.append(_TCP_BIND_AND_CONNECT)
    if version >= 6:
        words.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    attr = struct.pack(f"={len(words)}Q", *words)
    ruleset = sys_.syscall(
        "landlock_create_ruleset", sys_.LANDLOCK_CREATE_RULESET, attr, len(attr), 0
    )
    try:
        for path, rights in _grants(confinement, private_view=private_view):
            _grant(ruleset, path, rights & handled)
        flags = _LOG_SAME_EXEC_OFF if version >= 7 else 0
        sys_.syscall("landlock_restrict_self", sys_.LANDLOCK_RESTRICT_SELF, ruleset, flags)
    finally:
        os.close(ruleset)


def _grants(confinement: Confinement, *, private_view: bool) -> list[tuple[Path, int]]:
    readable = confinement.readable_paths()
    if not private_view:
        readable = without_hidden(readable, existing(confinement.hidden))
    grants = [(path, _READ) for path in readable]
    nodes = PLAIN_NODES + (gpu_nodes() if confinement.gpu else ())
    grants += [(node, _DEVICE) for node in existing(nodes)]
    grants.append((confinement.workdir, _EVERYTHING))
    if private_view:
        grants += [(Path("/tmp"), _EVERYTHING), (Path("/dev/shm"), _EVERYTHING)]
        grants.append((Path("/dev"), _READ_DIR))
        # The CUDA driver (570 and later) fails if it cannot name its threads, which writes
        # /proc/<pid>/task/<tid>/comm. What else is in /proc is mounted read-only by then.
        grants.append((Path("/proc"), _WRITE))
    else:
        grants.append((_pinned_own_tasks(), _WRITE))
    return grants


def _pinned_own_tasks() -> Path:
    # A rule belongs to an inode, and procfs makes a new inode for the same directory once the
    # kernel has dropped the old entry from its cache. The open descriptor prevents that. It is
    # left open on purpose, for the life of the process.
    path = Path(f"/proc/{os.getpid()}/task")
    os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return path


def without_hidden(readable: tuple[Path, ...], hidden: tuple[Path, ...]) -> tuple[Path, ...]:
    """Replaces each readable directory that contains a hidden one by its other entries.

    Landlock grants whole hierarchies and cannot take a part back. The directories in between are
    not granted, so they cannot be listed either: Python finds no *new* top-level module there.
    """
    kept: list[Path] = []
    for path in readable:
        if path in hidden:
            continue
        if not any(path in h.parents for h in hidden):
            kept.append(path)
            continue
        try:
            entries = [entry for entry in path.iterdir() if not entry.is_symlink()]
        except OSError:  # not readable for us, thus not for the confined process
            continue
        kept += without_hidden(tuple(entries), hidden)
    return tuple(kept)


def _grant(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:  # gone, or covered by an empty directory: nothing to grant
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, descriptor)
        name = f"landlock_add_rule {path}"
        sys_.syscall(name, sys_.LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)
