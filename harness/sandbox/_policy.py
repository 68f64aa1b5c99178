"""What is asked of the sandbox: the levels, one confinement, and the paths a runtime needs.

Plain values. Nothing here calls the kernel or enforces anything.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_GIB = 1 << 30

_SYSTEM_PATHS = (  # of /etc what compilers, loaders and libraries ask for: no keys, no passwords
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc/alternatives",
    "/etc/debian_version",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/nvidia",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/python3",
    "/etc/timezone",
    "/opt",
    "/proc",
    "/sys",
    "/nix/store",
    "/gnu/store",
    "/run/current-system",
    "/run/opengl-driver",
)
_TOOLKIT_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDACXX", "LD_LIBRARY_PATH")


class Level(StrEnum):
    """How strongly a process is confined, weakest first.

    The values are words and compare as words: use ``at_least`` and ``weaker_of`` to compare levels.
    """

    LIMITS = "limits"
    LANDLOCK = "landlock"
    NAMESPACES = "namespaces"

    def at_least(self, other: Level) -> bool:
        """Whether this level includes everything that ``other`` enforces."""
        order = list(Level)
        return order.index(self) >= order.index(other)

    def weaker_of(self, other: Level) -> Level:
        """The weaker of the two."""
        return other if self.at_least(other) else self


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """What one process may use.

    Of two rules about nested paths the more specific one holds: a readable path below a hidden
    one stays readable, a hidden one below a readable one stays hidden. A tie hides.

    Attributes:
        workdir: Exists, is empty and ours. Becomes the current directory, HOME and TMPDIR, and is
            the only place where something written persists.
        private: Whether, under NAMESPACES, the work directory is memory of its own, as /tmp is:
            nothing written persists then, and nobody's disk can be filled.
        status_fd: Where the end of the process is reported, as one line of JSON:
            ``{"exit": n}``, ``{"signal": n}``, or ``{"fault": sentence}`` if it was never confined.
            The confined process does not hold it.
        hidden: Directories, those that exist by now, that the process must not see: empty under
            NAMESPACES, neither listable nor readable under LANDLOCK (where ``stat`` still tells
            that they exist).
        readable: Under Landlock, all that can be read and executed; ``runtime_paths()`` if None.
        keep_fds: Descriptors the process keeps, besides 1 and 2; all others are closed. None keeps
            whatever is open except ``status_fd``: a forgotten one, of a directory for instance,
            then reaches around every rule.
        gpu: Whether the NVIDIA and DRI device nodes can be used. They are all visible then: one
            among several devices is a matter of the environment, not of this sandbox.
        open_files: Limit of open descriptors.
        processes: Limit of processes and threads, at least 301, held under NAMESPACES where the
            kernel can (see ``_limits``).
        file_bytes: Limit of the size of one file.
        scratch_bytes: Limit of the private /tmp, and again of /dev/shm and a private work directory
            (memory, under NAMESPACES).
        cpu_seconds: Limit of processor time of each process (SIGXCPU), or None.
        max_level: Go no further than this, to test a weaker level or because a user asks for it.
    """

    workdir: Path
    status_fd: int
    private: bool = False
    hidden: tuple[Path, ...] = ()
    readable: tuple[Path, ...] | None = None
    keep_fds: tuple[int, ...] | None = None
    gpu: bool = False
    open_files: int = 1024
    processes: int = 4096
    file_bytes: int = 4 * _GIB
    scratch_bytes: int = _GIB // 4
    cpu_seconds: int | None = None
    max_level: Level = Level.NAMESPACES

    def readable_paths(self) -> tuple[Path, ...]:
        """The readable paths, resolved, those that exist."""
        chosen = runtime_paths() if self.readable is None else self.readable
        return existing(chosen)


def runtime_paths() -> tuple[Path, ...]:
    """What Python, torch, the compilers and the CUDA driver of this process read.

    No device nodes: those are granted one by one. The current directory, which ``sys.path`` may
    name by an empty string, is left out, as are the root and the home directory: a process
    started from there must not turn them into something every candidate can read. So is
    a checkout around the package: solutions and tests are none of a candidate's business.
    """
    toolkits = [
        entry for name in _TOOLKIT_VARIABLES for entry in os.environ.get(name, "").split(":")
    ]
    package = str(Path(__file__).resolve().parents[1])
    interpreter = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    names = (*_SYSTEM_PATHS, *interpreter, *sys.path, *toolkits, package)
    home = Path(os.path.expanduser("~")).resolve()
    too_much = {Path("/"), Path("/tmp"), home, *home.parents}
    if not any("-packages" in part for part in Path(package).parts):  # not installed: a checkout
        too_much.add(Path(package).parent)
    return tuple(p for p in existing(tuple(map(Path, filter(None, names)))) if p not in too_much)


def existing(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The paths without symbolic links, each once, shortest first, and only those that exist."""
    found = set()
    for path in paths:
        try:
            found.add(path.resolve(strict=True))
        except OSError:
            continue
    return tuple(sorted(found, key=lambda path: (len(path.parts), path)))


def gpu_nodes() -> tuple[Path, ...]:
    """The device nodes, and directories of them, that CUDA and DRI open."""
    return (*sorted(Path("/dev").glob("nvidia*")), *sorted(Path("/dev").glob("dri")))


PLAIN_NODES = tuple(Path("/dev") / name for name in ("null", "zero", "full", "random", "urandom"))
