"""What a batch tells whoever watches it.

Does not: reach a run's files; an event that nobody watches loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.records import Evaluation


class Kind(StrEnum):
    """What happened."""

    RESUMED = "resumed"
    """A generation was judged by an earlier process."""
    PREPARED = "prepared"
    """A generation is built, and ready for a device."""
    ENDED = "ended"
    """A generation has its verdict."""
    FAULT = "fault"
    """A generation could not be judged, through a failure of ours."""
    WAITING = "waiting"
    """A device is held by another harness; the others go on."""
    DEVICE_LOST = "device_lost"
    """A device was taken out."""


@dataclass(frozen=True)
class Event:
    """Something that a progress display wants to know."""

    kind: Kind
    name: str
    """The generation's, or the device's."""
    evaluation: Evaluation | None = None
    """Of what ended."""
    text: str = ""
    """Words about a fault, or about a device."""


Watch = Callable[[Event], None]
