"""Makes processes through the fork server, talks to them, and ends them, whatever they do.

``ForkServer`` is a client of ``harness.forkserver``; ``Child`` is one process:
request and reply with a time limit, its output drained and capped, its memory
watched, its death explained. A child's end is described by ``ChildEnded``,
which callers turn into a verdict; only failures of ours raise ``HarnessFault``.

Does not: know what the messages mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.environment import clean_environment
from harness.errors import ForkServerFault
from harness.sandbox import Level, kill_tree, tree_usage
from harness.settings import Settings
from harness.warm import Stay, enter
from harness.wire import (
    TRUSTED_LIMIT,
    WORKER_LIMIT,
    Channel,
    Message,
    WireClosed,
    WireTimeout,
    WireViolation,
)

_SLICE = 0.05
"""Seconds between two looks at a busy child's memory."""
_START_SECONDS = 120.0
_MOST_EXTENSIONS = 32
"""Extensions that one message may lead to."""

Extension = Callable[[Message], tuple[Message, Sequence[int]]]


class Cause(StrEnum):
    """Why a child ended before it answered."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    TOO_MANY_PROCESSES = "too_many_processes"
    VIOLATION = "violation"


class ChildEnded(Exception):
    """A child ended before it answered, or answered what is no answer."""

    def __init__(self, cause: Cause, text: str, output: str = "") -> None:
        super().__init__(text)
        self.cause = cause
        self.output = output


@dataclass(frozen=True)
class Limits:
    """What a confined child may use."""

    memory_bytes: int
    processes: int
    file_bytes: int
    output_bytes: int
    sandbox: Level = Level.LIMITS
    """The weakest sandbox that will do."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that the settings name."""
        return cls(
            settings.memory_bytes,
            settings.processes,
            settings.file_bytes,
            settings.output_bytes,
            Level(settings.require_sandbox),
        )


class ForkServer:
    """A client's end of the fork server; ``start`` makes the server itself."""

    def __init__(
        self,
        channel: Channel,
        process: subprocess.Popen[bytes] | None = None,
        *,
        stays: bool = False,
    ) -> None:
        self._channel = channel
        self._process = process
        self._stays = stays
        self._lock = threading.Lock()
        self._ready = process is None

    @classmethod
    def start(
        cls,
        library: Path | None = None,
        *,
        census: Path | None = None,
        settings: Settings | None = None,
    ) -> ForkServer:
        """Start a server; it is not waited for until the first fork.

        With ``library``, the emulated device's, its children have that device; with ``census``
        (see ``launches``) what they launch can be counted. Where ``settings`` keep it warm, it may
        be one that stayed, and stays itself.
        """
        module = [sys.executable, "-P", "-m", "harness.forkserver"]
        words = ["" if library is None else str(library)]
        environment = clean_environment() | ({"LD_PRELOAD": str(census)} if census else {})
        stay = None
        if settings is not None and settings.keep_warm_seconds > 0:
            directory, seconds = settings.cache_dir / "warm", settings.keep_warm_seconds
            stay = Stay.of(directory, seconds, [*module, *words], environment)
            if (channel := enter(stay)) is not None:
                return cls(channel)
            words.append(stay.to_word())
        channel, theirs = Channel.pair()
        with theirs, contextlib.ExitStack() as files:
            # What stays must not hold on to this process's terminal.
            errors = None if stay is None else files.enter_context(stay.log())
            process = subprocess.Popen(
                [*module, str(theirs.fileno()), *words],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        return cls(channel, process, stays=stay is not None)

    def client(self) -> socket.socket:
        """A control socket for another client of the same server."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._ask({"op": "client"}, [theirs.fileno()])
        return ours

    def fork(self, message: Message, fds: Sequence[int]) -> int:
        """Fork one child and return its pid.

        Raises:
            ForkServerFault: the server failed.
        """
        return int(self._ask({"op": "fork"} | message, fds)["pid"])

    def close(self) -> None:
        """Let go of the server; it ends with its last client, if it does not stay."""
        self._channel.close()
        if self._process is not None and self._stays:
            threading.Thread(target=self._process.wait, daemon=True).start()  # leaves no zombie
        elif self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    def _ask(self, message: Message, fds: Sequence[int]) -> Message:
        with self._lock:
            try:
                if not self._ready:
                    hello, _ = self._channel.receive(_START_SECONDS)
                    if hello.get("threads") != 1:
                        raise ForkServerFault(
                            f"the fork server has {hello.get('threads')} threads; a fork needs one"
                        )
                    self._ready = True
                self._channel.send(message, fds)
                reply, _ = self._channel.receive(_START_SECONDS)
            except (WireClosed, WireTimeout, WireViolation) as error:
                raise ForkServerFault(f"the fork server does not answer: {error}") from error
        return reply


class Child:
    """One process, and the only way to talk to it."""

    def __init__(
        self, pid: int, channel: Channel, status: int, output: _Output, limits: Limits | None
    ) -> None:
        """For ``confined`` and ``oracle``, which make the process."""
        self.pid = pid
        self.level = Level.LIMITS
        self.workdir: Path | None = None
        self._channel = channel
        self._status = status
        self._output = output
        self._limits = limits
        self._dead = False

    @classmethod
    def confined(
        cls,
        server: ForkServer,
        role: str,
        limits: Limits,
        *,
        hidden: Sequence[Path] = (),
        readable: Sequence[Path] = (),
        gpu: bool = False,
        max_level: Level = Level.NAMESPACES,
    ) -> Child:
        """A ``worker`` or a ``builder``, with a private directory that goes when it goes.

        ``readable`` is what it may read besides what every process of ours needs.
        """
        workdir = Path(tempfile.mkdtemp(prefix="kernel-harness-"))
        confinement = {
            "workdir": str(workdir),
            "hidden": [str(p) for p in hidden],
            "readable": [str(p) for p in readable],
            "gpu": gpu,
            "private": role == "worker",  # of a builder the artifact is taken from there
            "file_bytes": limits.file_bytes,
            "max_level": str(max_level),
        }
        try:
            child = cls._make(server, {"role": role, "confinement": confinement}, limits)
        except BaseException:
            shutil.rmtree(workdir, ignore_errors=True)
            raise
        child.workdir = workdir
        try:
            ready = child._receive(_START_SECONDS)
        except ChildEnded as error:
            child.kill()
            raise ForkServerFault(f"a {role} could not be made: {error} {error.output}") from error
        child.level = Level(ready["level"])
        if not child.level.at_least(limits.sandbox):
            child.kill()
            raise ForkServerFault(f"a {role} got sandbox {child.level}, not {limits.sandbox}")
        return child

    @classmethod
    def oracle(cls, server: ForkServer, workers: ForkServer | None = None) -> Child:
        """A trusted child with a control socket to the fork server that makes its workers."""
        control = (workers or server).client()
        with control:
            return cls._make(server, {"role": "oracle"}, None, [control.fileno()])

    @classmethod
    def _make(
        cls,
        server: ForkServer,
        message: Message,
        limits: Limits | None,
        more: Sequence[int] = (),
    ) -> Child:
        limit = TRUSTED_LIMIT if limits is None else WORKER_LIMIT
        channel, theirs = Channel.pair(limit=limit)
        status_read, status_write = os.pipe()
        output_read, output_write = os.pipe()
        output = _Output(output_read, limits.output_bytes if limits else 1 << 16)
        try:
            pid = server.fork(message, [theirs.fileno(), status_write, output_write, *more])
        except ForkServerFault:
            channel.close()
            os.close(status_read)
            output.close()
            raise
        finally:
            theirs.close()
            os.close(status_write)
            os.close(output_write)
        return cls(pid, channel, status_read, output, limits)

    def request(
        self,
        message: Message,
        seconds: float | None,
        *,
        fds: Sequence[int] = (),
        extension: Extension | None = None,
        once_sent: Callable[[], None] | None = None,
    ) -> Message:
        """Send a message and wait for its answer.

        ``extension`` serves the requests for artifacts that come in between; the
        time it takes does not count against ``seconds``. ``once_sent`` is
        called when the message is out.

        Raises:
            ChildEnded: it died, ran out of time or memory, or broke the protocol.
        """
        token = secrets.token_hex(4)
        try:
            self._channel.send(message | {"token": token}, fds)
        except WireClosed:
            raise self._ended() from None
        if once_sent is not None:
            once_sent()
        deadline = None if seconds is None else time.monotonic() + seconds
        requests = 0
        while True:
            remaining = None if deadline is None else deadline - time.monotonic()
            reply = self._receive(remaining)
            if extension is not None and set(reply) == {"extension"}:
                requests += 1
                if requests > _MOST_EXTENSIONS:
                    raise ChildEnded(Cause.VIOLATION, "it asked for extensions without end")
                begun = time.monotonic()
                answer, sent = extension(reply["extension"])
                with contextlib.suppress(WireClosed):
                    self._channel.send(answer, sent)
                for fd in sent:
                    os.close(fd)
                if deadline is not None:
                    deadline += time.monotonic() - begun
                continue
            if reply.pop("token", None) != token:
                raise ChildEnded(
                    Cause.VIOLATION, "it sent a message that was not asked for", self.output
                )
            return reply

    def post(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send without waiting (for trusted children, whose answers are read with ``next``).

        Raises:
            ChildEnded: it is gone.
        """
        try:
            self._channel.send(message, fds)
        except WireClosed:
            raise self._ended() from None

    def next(self, seconds: float | None = None) -> Message:
        """The next message.

        Raises:
            ChildEnded: as for ``request``.
        """
        return self._receive(seconds)

    def has_spoken(self) -> bool:
        """Whether something came from it that nobody has read, or it is gone."""
        return self._channel.pending()

    @property
    def output(self) -> str:
        """What it printed, the middle left out where it was too long."""
        return self._output.text()

    def stop(self) -> None:
        """End its processes and nothing else; whoever waits for it is told. For any thread."""
        if not self._dead:
            kill_tree(self.pid)

    def kill(self) -> None:
        """End it and everything it started, and remove its directory. Safe to call twice."""
        if self._dead:
            return
        self._dead = True
        kill_tree(self.pid)
        self._channel.close()
        os.close(self._status)
        self._output.close()
        if self.workdir is not None:
            shutil.rmtree(self.workdir, ignore_errors=True)

    def _receive(self, seconds: float | None) -> Message:
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise ChildEnded(Cause.TIMED_OUT, f"no answer in {seconds:.0f} s", self.output)
            try:
                message, fds = self._channel.receive(
                    _SLICE if remaining is None else min(_SLICE, remaining)
                )
            except WireTimeout:
                self._check_usage()
                continue
            except WireClosed:
                raise self._ended() from None
            except WireViolation as error:
                raise ChildEnded(Cause.VIOLATION, str(error), self.output) from error
            for fd in fds:
                os.close(fd)
            return message

    def _check_usage(self) -> None:
        if self._limits is None:
            return
        usage = tree_usage(self.pid)
        if usage.rss_bytes > self._limits.memory_bytes:  # so they may be, or may share it
            usage = tree_usage(self.pid, exact=True)
        if usage.rss_bytes > self._limits.memory_bytes:
            gib = self._limits.memory_bytes / (1 << 30)
            raise ChildEnded(
                Cause.OUT_OF_MEMORY, f"it held more than {gib:.1f} GiB of host memory", self.output
            )
        if usage.processes > self._limits.processes:
            raise ChildEnded(
                Cause.TOO_MANY_PROCESSES, f"it ran {usage.processes} processes", self.output
            )

    def _ended(self) -> ChildEnded:
        """Explain the death, from the status that its keeper reports."""
        status = self._read_status()
        if "signal" in status:
            name = signal.Signals(status["signal"]).name
            return ChildEnded(Cause.SIGNALLED, f"it was ended by {name}", self.output)
        if "exit" in status:
            code = status["exit"]
            return ChildEnded(
                Cause.EXITED, f"it exited with status {code} before it answered", self.output
            )
        if "fault" in status:
            raise ForkServerFault(f"the sandbox could not be set up: {status['fault']}")
        return ChildEnded(Cause.EXITED, "it closed its channel", self.output)

    def _read_status(self) -> dict[str, Any]:
        data = b""
        deadline = time.monotonic() + 5
        while not data.endswith(b"\n"):
            ready, _, _ = select.select([self._status], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self._status, 4096) if ready else b""
            if not chunk:
                break
            data += chunk
        with contextlib.suppress(ValueError):
            status = json.loads(data)
            if isinstance(status, dict):
                return status
        return {}


class _Output:
    """Drains a pipe in a thread, so that a talkative child never blocks; keeps both ends."""

    def __init__(self, fd: int, keep: int) -> None:
        self._fd = fd
        self._half = keep // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def text(self) -> str:
        head, tail = bytes(self._head), bytes(self._tail)
        gap = f"\n… {self._dropped} bytes left out …\n".encode() if self._dropped else b""
        return (head + gap + tail).decode(errors="replace")

    def close(self) -> None:
        os.close(self._stopper)
        self._thread.join(5)
        os.close(self._stop)
        os.close(self._fd)

    def _drain(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd, self._stop], [], [])
            if self._fd not in ready:
                return
            data = os.read(self._fd, 1 << 16)
            if not data:
                return
            room = self._half - len(self._head)
            self._head += data[:room] if room > 0 else b""
            self._tail += data[max(room, 0) :]
            if (excess := len(self._tail) - self._half) > 0:
                del self._tail[:excess]
                self._dropped += excess


@contextlib.contextmanager
def ending(child: Child) -> Iterator[Child]:
    """The child, killed at the end."""
    try:
        yield child
    finally:
        child.kill()
