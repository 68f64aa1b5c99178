"""Messages between the processes: length-prefixed JSON over a Unix socket, with file descriptors.

A frame is four bytes of length (big endian) and that many bytes of UTF-8 JSON,
an object. The receiver states how long a frame may be; nothing is unpickled,
and whatever is not such a frame is a ``WireViolation``. A peer that does not read
cannot hold up the sender: after ``SEND_SECONDS`` it counts as gone.

Does not: know what the messages mean, or retry.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct("!I")
_MAX_FDS = 8
SEND_SECONDS = 30.0
"""How long a peer may leave a message unread before it counts as gone."""
WORKER_LIMIT = 1 << 20
"""Longest frame that is accepted from a worker, bytes (a spec holds its sources)."""
TRUSTED_LIMIT = 1 << 28
"""Longest frame between trusted processes, bytes."""


class WireClosed(Exception):
    """The peer closed its end."""


class WireTimeout(Exception):
    """No whole frame came in time."""


class WireViolation(Exception):
    """What came is not a frame of this protocol."""


class Channel:
    """One end of a connection; ``limit`` is the longest frame that it accepts, in bytes."""

    def __init__(self, sock: socket.socket, *, limit: int = TRUSTED_LIMIT) -> None:
        sock.settimeout(SEND_SECONDS)  # receiving waits in select
        self._sock = sock
        self._limit = limit
        self._buffer = bytearray()
        self._fds: list[int] = []

    @classmethod
    def pair(cls, *, limit: int = TRUSTED_LIMIT) -> tuple[Channel, socket.socket]:
        """A channel and the raw socket for the other side, to be handed to a child."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours, limit=limit), theirs

    def fileno(self) -> int:
        """The socket's descriptor, for ``select``."""
        return self._sock.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send one message; ``fds`` arrive as new descriptors at the other end.

        Raises:
            WireClosed: the other end is gone.
        """
        body = json.dumps(message, separators=(",", ":")).encode()
        frame = _LENGTH.pack(len(body)) + body
        try:
            if fds:
                # Ancillary data rides on the first byte, so it is there when the frame is.
                sent = socket.send_fds(self._sock, [frame], list(fds))
                frame = frame[sent:]
            self._sock.sendall(frame)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a frame may be out: nothing can follow it
                self._sock.shutdown(socket.SHUT_WR)
            raise WireClosed(str(error)) from error

    def receive(self, timeout: float | None = None) -> tuple[Message, list[int]]:
        """The next message and the descriptors that came with it.

        Raises:
            WireClosed: either end was closed before a whole frame came.
            WireTimeout: ``timeout`` seconds passed before a whole frame came.
            WireViolation: the frame is too long, or is not a JSON object.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (frame := self._whole_frame()) is None:
            self._fill(deadline)
        try:
            message = json.loads(frame.decode())
            if b"\\ud" in frame.lower():  # half a surrogate pair is no text: nobody could store it
                json.dumps(message, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise WireViolation(f"not JSON: {error}") from error
        if not isinstance(message, dict):
            raise WireViolation("a message is not an object")
        fds, self._fds = self._fds, []
        return message, fds

    def pending(self) -> bool:
        """Whether bytes are waiting that nobody asked for."""
        return bool(self._buffer) or bool(select.select([self._sock], [], [], 0)[0])

    def close(self) -> None:
        """Close this end and every descriptor that was received and not taken."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        self._sock.close()

    def _whole_frame(self) -> bytes | None:
        if self._missing():
            return None
        frame = bytes(self._buffer[_LENGTH.size :])
        self._buffer.clear()
        return frame

    def _missing(self) -> int:
        """Bytes to read next: the rest of the length, or of the frame; none where it is whole."""
        if len(self._buffer) < _LENGTH.size:
            return _LENGTH.size - len(self._buffer)
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self._limit:
            raise WireViolation(f"a frame of {length} bytes; at most {self._limit} are accepted")
        return int(_LENGTH.size + length - len(self._buffer))

    def _fill(self, deadline: float | None) -> None:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            ready = select.select([self._sock], [], [], wait)[0]
        except (OSError, ValueError) as error:  # another thread closed this end
            raise WireClosed(str(error)) from error
        if not ready:
            raise WireTimeout
        try:
            # Never beyond this frame: the descriptors of the next one would come with it.
            size = min(self._missing(), 1 << 20)
            data, fds, flags, _ = socket.recv_fds(self._sock, size, _MAX_FDS)
        except OSError as error:
            raise WireClosed(str(error)) from error
        self._fds.extend(fds)
        if len(self._fds) > _MAX_FDS or flags & socket.MSG_CTRUNC:
            raise WireViolation(f"more than {_MAX_FDS} descriptors with one message")
        if not data:
            raise WireClosed("end of stream")
        self._buffer += data
