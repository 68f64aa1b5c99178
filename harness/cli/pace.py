"""How fast a batch goes and how long it will take: preparation and judging apart.

Pure: whoever asks says what time it is. Does not: print.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

_RECENT = 20
"""How many of the last endings make a rate: what was long ago says little of what is to come."""


class Part(StrEnum):
    """The two parts of the pipeline, each with a pace of its own."""

    PREPARED = "prepared"
    JUDGED = "judged"


class _Track:
    """The endings of one part."""

    def __init__(self, begun: float) -> None:
        self.done = 0
        self._marks: deque[float] = deque([begun], maxlen=_RECENT + 1)

    def work(self, now: float) -> None:
        """Something ended after work of its own."""
        self._marks.append(now)

    def per_second(self, now: float) -> float | None:
        """Over the last endings until now, so that a standstill shows; unknown before the first."""
        if len(self._marks) < 2:
            return None
        return (len(self._marks) - 1) / max(now - self._marks[0], 1e-9)


class Pace:
    """Counts what ends, and tells rates and the time that is left.

    What an earlier process did, and what screening refuses in milliseconds, is counted as done
    and makes no rate: it says nothing about how long a build or a judgement takes.
    """

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        self._tracks = {part: _Track(now) for part in Part}

    def done(self, part: Part) -> int:
        """How many have come through."""
        return self._tracks[part].done

    def count(self, part: Part, now: float, *, worked: bool) -> None:
        """One more came through; ``worked`` if a builder (a device) had to do with it."""
        track = self._tracks[part]
        track.done += 1
        if worked:
            track.work(now)

    def per_minute(self, part: Part, now: float) -> float | None:
        """The rate of late; unknown before the first."""
        rate = self._tracks[part].per_second(now)
        return None if rate is None else 60 * rate

    def seconds_left(self, part: Part, now: float) -> float | None:
        """Until the last one is through; unknown while there is no rate.

        What is not prepared cannot be judged, so judging takes as long as the slower of both.
        """
        track = self._tracks[part]
        left = self.total - track.done
        if left <= 0:
            return 0.0
        rate = track.per_second(now)
        if rate is None:
            return None
        preparing = self.seconds_left(Part.PREPARED, now) if part is Part.JUDGED else None
        return max(left / rate, preparing or 0.0)


def duration(seconds: float) -> str:
    """As a person says it: ``40 s``, ``5 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def sentence(pace: Pace, part: Part, now: float) -> str:
    """``12/48 judged, 7.3 per minute, about 5 min left``."""
    text = f"{pace.done(part)}/{pace.total} {part}"
    rate, left = pace.per_minute(part, now), pace.seconds_left(part, now)
    if rate is not None:
        text += f", {rate:.1f} per minute"
    if left:
        text += f", about {duration(left)} left"
    return text
