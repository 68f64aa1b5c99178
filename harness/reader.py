"""The text stages' own process: extracts and screens one text after another, and nothing else.

A text can be written so that parsing it takes hours, or more memory than there is, or ends
the parser. Here that ends one process that nobody depends on: the kernel's limits are set
anew for each text, and whoever asked is told by this process's end. It has one thread, so that
no other disturbs the parser (see ``syntax``), and ends when its channel closes.

Run as ``python -m harness.reader FD``. Does not: judge (see ``reading``), or run what it reads.
"""

from __future__ import annotations

import contextlib
import math
import resource
import signal
import socket
import sys
import time
import traceback

from harness.extract import extract
from harness.screening import screen, signature_of
from harness.wire import Channel, Message, WireClosed

_WORN = 4
"""Part of its memory that a process may have held and still be kept: what one text leaves
behind must not be missing for the next."""


def main(control: int) -> None:
    """Answer until the channel closes."""
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # ignoring it would be inherited
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel = Channel(socket.socket(fileno=control))
    with contextlib.suppress(WireClosed):
        while True:
            message, _ = channel.receive()
            _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + message["seconds"]))
            _limit(resource.RLIMIT_AS, message["memory_bytes"])
            try:
                channel.send({"found": _found(message), "worn": _worn(message)})
            except MemoryError:
                channel.send({"exceeded": "memory"})
            except WireClosed:
                raise
            except Exception:
                channel.send({"fault": traceback.format_exc()})


def _found(message: Message) -> Message:
    if message["op"] == "extract":
        return extract(message["text"]).model_dump(mode="json")
    reference = signature_of(message["reference"])
    return screen(message["text"], reference, native=message["native"]).model_dump(mode="json")


def _worn(message: Message) -> bool:
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return bool(held * _WORN > message["memory_bytes"])


def _limit(kind: int, wanted: int) -> None:
    _, most = resource.getrlimit(kind)
    soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(kind, (soft, most))


if __name__ == "__main__":
    main(int(sys.argv[1]))
