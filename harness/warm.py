"""Fork servers that stay for the next command: where one listens, and who may come in.

A process with torch imported is worth seconds. A fork server that is told to stay listens on a
socket in the cache, for commands of the same user, program, environment and working directory, and
ends when nobody has been there for a while. A candidate may reach the socket (Landlock knows no
sockets), and what a fork server knows its children know; so there is no secret: whoever confined
itself carries its filter of system calls for good, and is not let in.

Does not: start a process, or know what a fork server does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.wire import Channel, Message, WireClosed, WireTimeout, WireViolation

_HELLO_SECONDS = 5.0
"""How long a server may take to greet; it is idle, or nearly so."""
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of a socket's other end
_MARKS = re.compile(r"^(?:NoNewPrivs|Seccomp_filters):\s*(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Stay:
    """How a fork server stays."""

    directory: Path
    """Where it listens; nobody else may read there."""
    name: str
    """The same for servers that may stand for each other."""
    seconds: float
    """How long it waits when the last command has gone."""

    @classmethod
    def of(
        cls, directory: Path, seconds: float, command: Sequence[str], environment: Mapping[str, str]
    ) -> Stay:
        """For servers that are started by a command in an environment, here and now."""
        what = [*command, sorted(environment.items()), os.getcwd(), list(_versions())]
        return cls(directory, hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32], seconds)

    def to_word(self) -> str:
        """As an argument of a command."""
        return json.dumps([str(self.directory), self.name, self.seconds])

    @classmethod
    def of_word(cls, word: str) -> Stay:
        """What ``to_word`` made."""
        directory, name, seconds = json.loads(word)
        return cls(Path(directory), str(name), float(seconds))

    def path(self, kind: str) -> Path:
        """The file of a kind: ``socket``, ``lock`` or ``log``."""
        return self.directory / f"{self.name}.{kind}"

    def log(self) -> BinaryIO:
        """Where a server of this name writes what goes wrong."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.path("log").open("ab")


def enter(stay: Stay) -> Channel | None:
    """A channel to a server that stayed; none where there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(stay.path("socket")) as path:
            sock.connect(path)
    except OSError:
        sock.close()
        return None
    channel = Channel(sock)
    with contextlib.suppress(WireClosed, WireTimeout, WireViolation):
        hello, _ = channel.receive(_HELLO_SECONDS)
        if hello.get("threads") == 1:
            return channel
    channel.close()
    return None


class Door:
    """Where a server listens."""

    def __init__(self, stay: Stay, lock: int) -> None:
        """For ``open``, which holds the lock."""
        self.seconds = stay.seconds
        self._path = stay.path("socket")
        self._lock = lock
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short(self._path) as path:
            self._socket.bind(path)
        self._socket.listen()

    @classmethod
    def open(cls, stay: Stay) -> Door | None:
        """A door; none where another server has it, or nobody could be told from a candidate."""
        if len(_marks(os.getpid())) != 2:
            return None
        stay.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(stay.path("lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(stay, lock)
        except OSError:
            os.close(lock)
            return None

    def fileno(self) -> int:
        """The socket's descriptor, for ``select``."""
        return self._socket.fileno()

    def admit(self, hello: Message) -> Channel | None:
        """Greet who has come; none where it is another user's, or more confined than this process.

        No time passes in which a pid could come to name another process: the numbers go round once.
        """
        sock, _ = self._socket.accept()
        size = _CREDENTIALS.size
        pid, user, _ = _CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        channel = Channel(sock)
        ours, theirs = _marks(os.getpid()), _marks(pid)
        if user == os.getuid() and theirs and all(t <= o for o, t in zip(ours, theirs)):
            with contextlib.suppress(WireClosed):
                channel.send(hello)
                return channel
        channel.close()
        return None

    def leave(self) -> None:
        """Let go of it in a forked process, which leaves it to the server."""
        self._socket.close()
        os.close(self._lock)

    def close(self) -> None:
        """Nobody comes in any more."""
        self._path.unlink(missing_ok=True)
        self.leave()


def _marks(pid: int) -> list[int]:
    """What a process gave up for good: whether new privileges, and how many filters it is behind.

    Empty where it is gone; fewer than two where the kernel (before 5.9) does not tell.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return [int(found) for found in _MARKS.findall(status)]


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same place in fewer characters than a socket's address can have."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _versions() -> Iterator[tuple[str, int]]:
    """What a server has imported: our own files and torch, and when they were written."""
    torch = importlib.util.find_spec("torch")
    files = sorted(Path(__file__).parent.rglob("*.py"))
    if torch is not None and torch.origin is not None:
        files.append(Path(torch.origin).with_name("version.py"))
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            yield str(file), file.stat().st_mtime_ns
