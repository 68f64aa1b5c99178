"""Namespaces: the process gets processes, mounts, network and IPC of its own.

What it then sees: the host's files, read-only, without set-user-id; its work directory, or a
private one in memory, writable; empty private /tmp, /dev/shm and /run; a /dev of a few harmless
nodes; a /proc of its own processes; nothing where a hidden path was. The host's files stay readable
unless hidden (Landlock, applied later, narrows that), and a device node that is shown can be used
in full.

Root is mapped to root and stays the owner of root's files. No capability is left to it, but a few
things ask for the owner only: the sysctls, raw disks, sockets of daemons. Hence the private /dev,
the empty /run, and a /proc that is read-only outside the processes' own directories.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.sandbox import _syscalls as sys_
from harness.sandbox._limits import kernel_release
from harness.sandbox._policy import PLAIN_NODES, Confinement, existing, gpu_nodes

_PRIVATE = (Path("/tmp"), Path("/dev"), Path("/run"))
_MOST_INODES = 65536
_LEAST_PID_MAX = 301  # what the kernel accepts


def enter() -> None:
    """Moves this single-threaded process into new namespaces; its children get the pid namespace.

    Not yet into new mounts: it goes on to use its files while ``build_view`` changes those.

    Users and groups are mapped to themselves: files keep their owners, and device nodes that a
    supplementary group may open stay open to it.
    """
    user, group = os.geteuid(), os.getegid()
    sys_.unshare(
        sys_.CLONE_NEWUSER
        | sys_.CLONE_NEWPID
        | sys_.CLONE_NEWNET
        | sys_.CLONE_NEWIPC
        | sys_.CLONE_NEWUTS
    )
    with suppress(OSError):  # a kernel without cgroups; /sys is read-only in any case
        sys_.unshare(sys_.CLONE_NEWCGROUP)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def build_view(confinement: Confinement) -> bool:
    """Arranges the mounts, as the first process of the new pid namespace.

    Returns:
        Whether /proc is a new one. Where a container masks parts of its own, the kernel refuses
        one that would show them.
    """
    root = Path("/")
    sys_.unshare(sys_.CLONE_NEWNS)
    sys_.mount(None, root, flags=sys_.MS_REC | sys_.MS_PRIVATE)
    covers = _covers(confinement)
    shown = _shown_through(covers, confinement)
    _make_tree_read_only(root)

    # Parents before children, so that each one ends up on top of what it narrows or widens.
    steps: list[_Cover | _Shown | _Fresh] = [*covers, *shown]
    if confinement.private:
        steps.append(_Fresh(confinement.workdir, confinement.scratch_bytes))
    for step in sorted(steps, key=lambda step: len(step.path.parts)):
        step.apply()
    for cover in covers:
        cover.seal()
    _set_writable(confinement.workdir)

    fresh = _mount_proc()
    _limit_namespace(confinement)
    if fresh:
        _protect_proc()
    return fresh


def make_own_proc_writable() -> None:
    """Reopens this process's own directory of a /proc that could not be replaced.

    The CUDA driver writes there (see ``_landlock``). To be called by the process to be confined,
    while it still may mount.
    """
    own = Path("/proc") / os.readlink("/proc/self")
    sys_.mount(str(own), own, flags=sys_.MS_BIND)
    _set_writable(own)


@dataclass(frozen=True)
class _Cover:
    """A new file system on top of a directory, hiding what is there."""

    path: Path
    bytes_limit: int | None  # None: stays empty and read-only

    def apply(self) -> None:
        if not self.path.is_dir():  # already invisible below another cover
            return
        size = self.bytes_limit or 1 << 20
        mode = "1777" if self.bytes_limit else "755"
        _mount_memory(self.path, size, mode)
        if self.path == Path("/dev"):
            (self.path / "shm").mkdir()
            (self.path / "fd").symlink_to("/proc/self/fd")
            for number, name in enumerate(("stdin", "stdout", "stderr")):
                (self.path / name).symlink_to(f"/proc/self/fd/{number}")

    def seal(self) -> None:
        if not self.bytes_limit and self.path.is_dir():
            _set_flags(self.path, add=sys_.MS_RDONLY)


@dataclass(frozen=True)
class _Shown:
    """A path of the host that is visible although a directory above it is covered."""

    path: Path
    descriptor: int  # opened before it was covered

    def apply(self) -> None:
        if stat.S_ISDIR(os.fstat(self.descriptor).st_mode):
            self.path.mkdir(parents=True, exist_ok=True)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        source = f"/proc/self/fd/{self.descriptor}"
        sys_.mount(source, self.path, flags=sys_.MS_BIND | sys_.MS_REC)
        os.close(self.descriptor)


@dataclass(frozen=True)
class _Fresh:
    """A new, writable file system where there may be no directory yet."""

    path: Path
    bytes_limit: int

    def apply(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        _mount_memory(self.path, self.bytes_limit, "700")


def _mount_memory(path: Path, size: int, mode: str) -> None:
    data = f"size={size},nr_inodes={_MOST_INODES},mode={mode}"
    sys_.mount("tmpfs", path, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, data)


def _covers(confinement: Confinement) -> list[_Cover]:
    scratch = confinement.scratch_bytes
    covers = {path: _Cover(path, None) for path in existing(confinement.hidden)}
    for path in covers:
        if not path.is_dir():
            raise NotADirectoryError(f"only directories can be hidden, not {path}")
    covers |= {path: _Cover(path, None) for path in existing(_PRIVATE)}
    covers[Path("/tmp")] = _Cover(Path("/tmp"), scratch)
    covers[Path("/dev/shm")] = _Cover(Path("/dev/shm"), scratch)
    return list(covers.values())


def _shown_through(covers: list[_Cover], confinement: Confinement) -> list[_Shown]:
    covered = {cover.path for cover in covers}
    wanted = existing(PLAIN_NODES + (gpu_nodes() if confinement.gpu else ()))
    wanted += tuple(p for p in confinement.readable_paths() if p.parts[:2] != ("/", "dev"))
    paths = {p for p in wanted if p not in covered and not covered.isdisjoint(p.parents)}
    if not confinement.private:
        # The work directory gets a mount of its own, because it alone is writable.
        paths.add(confinement.workdir)
    return [_Shown(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in paths]


def _make_tree_read_only(root: Path) -> None:
    try:
        sys_.mount_setattr_recursive(root, sys_.MS_RDONLY | sys_.MS_NOSUID)
    except OSError:
        make_each_read_only()


def make_each_read_only() -> None:
    """Makes every mount read-only one by one, for kernels before 5.12."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    for line in lines:
        path = Path(os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1")))
        try:
            _set_flags(path, add=sys_.MS_RDONLY | sys_.MS_NOSUID)
        except OSError:
            # Below another mount, hence out of reach for the confined process too. Anything else
            # would be a hole.
            if path.exists() and not os.statvfs(path).f_flag & os.ST_RDONLY:
                raise


def _set_writable(path: Path) -> None:
    _set_flags(path, add=sys_.MS_NOSUID, remove=sys_.MS_RDONLY)


def _set_flags(path: Path, *, add: int = 0, remove: int = 0) -> None:
    # A remount states all flags, and the kernel refuses to lose one that the host had set.
    now = os.statvfs(path).f_flag
    flags = now & (sys_.MS_RDONLY | sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    flags |= now & (sys_.MS_NOATIME | sys_.MS_NODIRATIME)
    if now & os.ST_RELATIME:
        flags |= sys_.MS_RELATIME
    sys_.mount(None, path, flags=(flags | add) & ~remove | sys_.MS_REMOUNT | sys_.MS_BIND)


def _mount_proc() -> bool:
    flags = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
    try:
        sys_.mount("proc", Path("/proc"), "proc", flags)
    except OSError:
        return False
    return True


def _limit_namespace(confinement: Confinement) -> None:
    with suppress(OSError):  # a /proc that could not be replaced; the filter refuses it as well
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    # Before 6.14 this very file is the whole machine's, and root would change it for everyone.
    if kernel_release() >= (6, 14):
        with suppress(OSError):
            most = max(confinement.processes, _LEAST_PID_MAX)
            Path("/proc/sys/kernel/pid_max").write_text(str(most))


def _protect_proc() -> None:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() or entry.is_symlink():
            continue
        path = Path(entry.path)
        if entry.is_dir() or entry.stat().st_mode & 0o222:
            sys_.mount(entry.path, path, flags=sys_.MS_BIND)
            _set_flags(path, add=sys_.MS_RDONLY)
