"""The fork server: one process with torch imported that forks every other one.

A fresh ``import torch`` takes seconds; a fork takes hundredths. The server holds
no CUDA context (a context does not survive a fork), runs no candidate code and
keeps no state between forks. It listens on the control sockets of its clients
(the grader and the oracles) and ends when the last of them closes, or stays a while
for the next command (see ``warm``).

Roles: ``oracle`` is trusted and not confined; ``worker`` and ``builder`` confine
themselves before they read their first message.

Run as ``python -m harness.forkserver FD LIBRARY STAY``. With the emulated device's library the
workers of the server have a ``cuda:0``, and nobody else has; either may be an empty word.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from harness.emulation import device
from harness.sandbox import (
    Confinement,
    Level,
    available,
    confine,
    die_with,
    kill_tree,
    runtime_paths,
)
from harness.warm import Door, Stay
from harness.wire import Channel, Message, WireClosed


def main(control: int, library: str = "", stay: str = "") -> None:
    """Serve until every client is gone, and if it stays until nobody comes any more."""
    os.environ.pop("LD_PRELOAD", None)  # it is for this process and its forks, not for compilers
    if library:
        device.load(Path(library))  # before torch, which asks for its CUDA hooks only once
    _import_what_the_roles_need()
    if library:
        from harness.emulation import torch_cuda

        torch_cuda.install()
    available()  # probed once, here; every child knows the answer
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps; nobody here waits
    hello = {"ready": True, "threads": len(os.listdir("/proc/self/task"))}
    first = Channel(socket.socket(fileno=control))
    door = Door.open(Stay.of_word(stay)) if stay else None
    first.send(hello)
    clients = {first: _Children()}
    try:
        _serve_all(clients, door, hello)
    finally:
        if door is not None:
            door.close()


def _serve_all(clients: dict[Channel, _Children], door: Door | None, hello: Message) -> None:
    idle = True
    while clients or door is not None:
        waited_for: list[Channel | Door] = [*clients]
        if door is not None:
            waited_for.append(door)
        patience = None if clients or door is None else door.seconds
        readable, _, _ = select.select(waited_for, [], [], 0 if idle else patience)
        if not readable and not idle:
            return
        if not readable:
            _import_what_takes_long()  # the first builder need not wait for it
            idle = False
        for ready in readable:
            if isinstance(ready, Door):
                if (newcomer := ready.admit(hello)) is not None:
                    clients[newcomer] = _Children()
                continue
            try:
                message, fds = ready.receive(timeout=10)
                _serve(message, fds, ready, clients, door)
            except WireClosed:
                ready.close()
                clients.pop(ready).kill()


def _serve(
    message: Message,
    fds: list[int],
    client: Channel,
    clients: dict[Channel, _Children],
    door: Door | None,
) -> None:
    if message["op"] == "client":
        clients[Channel(socket.socket(fileno=fds[0]))] = _Children()
        client.send({})
        return
    pid = _fork(message, fds, list(clients), door)
    clients[client].add(pid, message.get("confinement", {}).get("workdir"))
    client.send({"pid": pid})


class _Children:
    """The processes forked for one client; they end with it, however it ended."""

    def __init__(self) -> None:
        self._alive: dict[int, tuple[int, str | None]] = {}

    def add(self, pid: int, workdir: str | None) -> None:
        """Take note of a child, and forget those that have ended."""
        for pidfd in self._ended():
            os.close(pidfd)
            del self._alive[pidfd]
        with contextlib.suppress(ProcessLookupError):
            self._alive[os.pidfd_open(pid)] = (pid, workdir)

    def kill(self) -> None:
        """End what is left, and remove what it wrote; its client can no longer do that."""
        ended = self._ended()
        for pidfd, (pid, workdir) in self._alive.items():
            if pidfd not in ended:  # so the pid is still this child's own
                kill_tree(pid)
            os.close(pidfd)
            if workdir is not None:
                shutil.rmtree(workdir, ignore_errors=True)
        self._alive.clear()

    def _ended(self) -> list[int]:
        """A pidfd is readable once its process has ended."""
        return select.select(list(self._alive), [], [], 0)[0]


def _import_what_the_roles_need() -> None:
    """Import once, before any fork, what every child would import."""
    import numpy  # noqa: F401
    import torch

    # cpp_extension asks at import whether a GPU is there, for a log message; the
    # answer would start CUDA in this process, and CUDA does not survive a fork.
    ask, torch.cuda.is_available = torch.cuda.is_available, lambda: False
    logging.disable(logging.WARNING)
    import torch.utils.cpp_extension

    logging.disable(logging.NOTSET)
    torch.cuda.is_available = ask
    import harness.build.box
    import harness.oracle.program
    import harness.worker.program  # noqa: F401


def _import_what_takes_long() -> None:
    """Import what only a gradient's first computation wants, two seconds' worth."""
    import torch.fx.experimental.symbolic_shapes  # noqa: F401


def _fork(message: Message, fds: list[int], clients: list[Channel], door: Door | None) -> int:
    server = os.getpid()
    pid = os.fork()
    if pid:
        for fd in fds:
            os.close(fd)
        return pid
    code = 70
    with contextlib.suppress(BaseException):
        die_with(server)
        for client in clients:
            client.close()
        if door is not None:
            door.leave()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _become(message, fds)
        code = 0
    os._exit(code)


def _become(message: Message, fds: list[int]) -> None:
    """The child's side; returns when the role is done."""
    channel_fd, status_fd, output_fd, *more = fds
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output_fd), (2, output_fd)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output_fd)
    if message["role"] == "oracle":
        from harness.oracle.program import serve as oracle

        os.setsid()
        os.close(status_fd)
        oracle(Channel(socket.socket(fileno=channel_fd)), Channel(socket.socket(fileno=more[0])))
        return
    level = _confine(message["confinement"], status_fd, channel_fd)
    channel = Channel(socket.socket(fileno=channel_fd), limit=1 << 30)
    channel.send({"ready": True, "level": level})
    if message["role"] == "builder":
        from harness.build.box import serve as build

        build(channel)
    else:
        from harness.worker.program import serve as work

        work(channel)


def _confine(wire: dict[str, Any], status_fd: int, channel_fd: int) -> str:
    workdir = Path(wire["workdir"])
    level = confine(
        Confinement(
            workdir=workdir,
            hidden=tuple(Path(p) for p in wire["hidden"]),
            readable=(*runtime_paths(), *(Path(p) for p in wire["readable"])),
            gpu=bool(wire["gpu"]),
            private=bool(wire["private"]),
            file_bytes=int(wire["file_bytes"]),
            cpu_seconds=None,
            status_fd=status_fd,
            keep_fds=(channel_fd,),
            max_level=Level(wire["max_level"]),
        )
    )
    keep = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_HOME", "CC", "CXX"}
    keep.add("CUDA_DEVICE_ORDER")  # a worker's GPU N is the oracle's
    environment = {k: v for k, v in os.environ.items() if k in keep}
    os.environ.clear()
    os.environ.update(environment, HOME=str(workdir), TMPDIR=str(workdir))
    os.chdir(workdir)
    return str(level)


if __name__ == "__main__":
    with contextlib.suppress(WireClosed):  # who started this is gone already
        main(int(sys.argv[1]), *sys.argv[2:])
