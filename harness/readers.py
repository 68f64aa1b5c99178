"""Processes that read hostile texts (see ``reader``), each kept until one ends it.

What a text takes beyond its limits is ``Exceeded``, which is held against the text; whatever
else goes wrong is a fault of ours. Answers are JSON: nothing in them is executed.

Does not: know what is read, or import what reading needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

from harness.environment import clean_environment
from harness.errors import ReaderFault
from harness.wire import Channel, Message, WireClosed, WireTimeout, WireViolation

_LONGEST_ANSWER = 1 << 25
_STALLED, _START_SECONDS = 10, 60.0
"""A text's limit is processor time. A process that has not used it up after so many times as
long, its start included, stands still, and that is no text's doing."""
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")


class Exceeded(Exception):
    """Reading a text took more than it may; the message is what it does (``takes more …``)."""


class Readers:
    """As many processes as threads ask at a time; safe to use from all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []
        self._busy: set[_Reader] = set()
        self._closed = False

    def warm(self) -> None:
        """Start one without waiting for it, so that the first text waits less."""
        with self._lock:
            if not (self._closed or self._idle or self._busy):
                self._idle.append(_Reader())

    def ask(self, message: Message, seconds: float, memory_bytes: int) -> Message:
        """What was found in a text, within so much processor time and memory.

        Raises:
            Exceeded: it takes more, or ends the process that reads it.
            ReaderFault: that process failed, or stands still.
        """
        with self._lock:
            if self._closed:
                raise ReaderFault("nothing is read any more")
            reader = self._idle.pop() if self._idle else _Reader()
            self._busy.add(reader)
        kept = False
        try:
            found, kept = reader.ask(message, seconds, memory_bytes)
            return found
        finally:
            with self._lock:
                self._busy.discard(reader)
                kept = kept and not self._closed
                if kept:
                    self._idle.append(reader)
            if not kept:
                reader.end()

    def close(self) -> None:
        """End all of them, also under whoever waits for one."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for reader in self._busy:
                reader.kill()
        for reader in idle:
            reader.end()


class _Reader:
    """One process."""

    def __init__(self) -> None:
        self._channel, theirs = Channel.pair(limit=_LONGEST_ANSWER)
        fd = theirs.fileno()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.reader", str(fd)],
                pass_fds=[fd],
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._channel.close()
            raise ReaderFault(f"a process that reads texts cannot be started: {error}") from error
        finally:
            theirs.close()

    def ask(self, message: Message, seconds: float, memory_bytes: int) -> tuple[Message, bool]:
        """What was found, and whether the process is good for another text."""
        patience = _START_SECONDS + _STALLED * seconds
        try:
            self._channel.send(message | {"seconds": seconds, "memory_bytes": memory_bytes})
            reply, fds = self._channel.receive(patience)
        except WireTimeout:
            raise ReaderFault(f"who reads texts said nothing for {patience:.0f} s") from None
        except WireViolation as error:
            raise Exceeded("leads to findings without end") from error
        except WireClosed:
            raise self._ended(seconds) from None
        for fd in fds:
            os.close(fd)
        if "exceeded" in reply:
            raise Exceeded(f"takes more than {memory_bytes / (1 << 30):.1f} GiB of memory")
        if "fault" in reply:
            raise ReaderFault(f"reading a text failed: {reply['fault']}")
        return reply["found"], not reply["worn"]

    def kill(self) -> None:
        """End the process; its channel is left to whoever waits for it."""
        self._process.kill()

    def end(self) -> None:
        """End the process and let go of it."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _ended(self, seconds: float) -> Exception:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        name = signal.Signals(-code).name if code is not None and code < 0 else None
        if name == "SIGXCPU":
            return Exceeded(f"takes more than {seconds:g} s of processor time")
        if name in _CRASHES:
            return Exceeded(f"ends the parser ({name})")
        return ReaderFault(f"who reads texts ended ({name or f'status {code}'})")
