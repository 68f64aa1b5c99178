"""What reads hostile texts: extracts, screens and looks for what is not emulated, one by one.

A text can be written so that parsing it takes hours, or more memory than there is, or ends
the parser. Here that ends a process that nobody depends on: the kernel's limits are set
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
from pathlib import Path

from harness.extract import extract
from harness.screening import screen, signature_of
from harness.wire import Channel, Message, WireClosed

_WORN = 4
"""Part of its memory that a process may hold and still be kept: what one text leaves behind
must not be missing for the next."""


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
    text = message["text"]
    if message["op"] == "extract":
        return extract(text).model_dump(mode="json")
    if message["op"] == "gaps":
        return _gaps(message["spec"], text)
    reference = signature_of(message["reference"])
    return screen(text, reference, native=message["native"]).model_dump(mode="json")


def _gaps(wire: Message, candidate: str) -> Message:
    """What keeps an extension from the emulated device."""
    from harness.build import ExtensionSpec, gaps  # here, as most readers never need it

    spec = ExtensionSpec.model_validate(wire)
    found = {
        "unsupported": gaps.unsupported(spec, candidate),
        "refused": gaps.refused(spec, candidate),
    }
    return {name: [f.model_dump(mode="json") for f in each] for name, each in found.items()}


def _worn(message: Message) -> bool:
    # Not ru_maxrss: it begins with what the process held that started this one.
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return bool(pages * resource.getpagesize() * _WORN > message["memory_bytes"])


def _limit(kind: int, wanted: int) -> None:
    _, most = resource.getrlimit(kind)
    soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(kind, (soft, most))


if __name__ == "__main__":
    main(int(sys.argv[1]))
