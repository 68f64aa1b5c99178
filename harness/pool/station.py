"""One device of a batch: its lease, its judgements, and whether it is well.

What tells against a device is only what happens where no candidate is: a fresh oracle that
cannot be opened or computes wrongly, the driver's own count of errors, a judgement of our
own reference that fails. What a candidate does to its worker is a verdict, and what it does
to the oracle counts against the candidate, as long as the device passes these checks.

Does not: keep records, or decide which candidate comes next.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.building import Unbuilt
from harness.errors import BuildFault, DeviceFault, HarnessError, HarnessFault, ProblemError
from harness.grader import Grader
from harness.pool.events import Event, Kind, Watch
from harness.pool.ready import Item, Ready
from harness.problems import find
from harness.records import DeviceKind, Evaluation
from harness.timings import DeviceUse, LostDevice

_TRIES = 2
"""How often a candidate is judged before a failure of ours on healthy devices is given up on."""
_LOSSES = 2
"""Devices that may fall ill under one candidate; it is not given to another one then."""
_POSTPONED = 3
"""How often a candidate may leave a device to have something built; after that the device waits,
as a candidate can ask for something new each time."""
_STRIKES = 3
"""Different candidates in a row that our side fails on before the device has to clock our own
reference to stay."""
_PAUSES = (0.0, 2.0, 8.0)
"""Seconds before each look at a device. What the last candidate held may not be free at once."""
_CONTROL = "relu"
"""The shipped problem whose reference is clocked."""
_LEASE_SECONDS = 1.0
"""Between two looks at a lease that another harness holds."""


class Station:
    """Judges what is ready on one device, until the batch is over or the device is lost."""

    def __init__(
        self,
        number: int,
        grader: Grader,
        ready: Ready,
        tell: Watch,
        postpone: Callable[[Item, Unbuilt], None],
    ) -> None:
        """``postpone`` has something built away from the device, and makes the item ready again."""
        self.lost: LostDevice | None = None
        self._number = number
        self._grader = grader
        self._ready = ready
        self._tell = tell
        self._postpone = postpone
        self._struck: set[str] = set()
        self._judged = 0
        self._busy = self._waiting = self._leased = 0.0

    def run(self) -> None:
        """The body of the device's thread."""
        item: Item | None = None
        try:
            if not self._hold():
                return
            self._ready.join(self._number)
            while self.lost is None and (item := self._next()) is not None:
                self._judge(item)
        except Exception as error:  # whatever it is, nobody must wait for this device
            if not self._ready.closed:
                self._lose(_words(error), item)

    def use(self, wall: float) -> DeviceUse:
        """What the device did in a batch of so many seconds."""
        return DeviceUse(
            device=self._grader.name,
            judged=self._judged,
            busy_seconds=self._busy,
            waiting_seconds=self._waiting,
            leased_seconds=self._leased,
            wall_seconds=wall,
        )

    def _hold(self) -> bool:
        """Wait for the lease with no candidate in hand; false if the batch ended before."""
        begun = time.perf_counter()
        if not self._grader.hold(0):
            text = f"waiting for {self._grader.name}, which another harness holds"
            self._tell(Event(Kind.WAITING, self._grader.name, text=text))
            while not self._grader.hold(0):
                ended = self._ready.closes_within(_LEASE_SECONDS)
                self._leased = time.perf_counter() - begun
                if ended:
                    return False
        return True

    def _next(self) -> Item | None:
        begun = time.perf_counter()
        try:
            return self._ready.take(self._number)
        finally:
            self._waiting += time.perf_counter() - begun

    def _judge(self, item: Item) -> None:
        findings = list(item.prepared.findings)
        begun = time.perf_counter()
        try:
            evaluation = self._grader.judge(
                item.prepared, patient=lambda: item.postponed >= _POSTPONED
            )
        except Unbuilt as late:
            self._busy += time.perf_counter() - begun
            item.prepared.findings = findings
            item.postponed += 1
            self._postpone(item, late)
        except Exception as error:
            self._busy += time.perf_counter() - begun
            item.prepared.findings = findings
            if not self._ready.closed:  # else we ended it ourselves
                self._failed(item, error)
        else:
            self._busy += time.perf_counter() - begun
            self._ended(item, evaluation)

    def _ended(self, item: Item, evaluation: Evaluation) -> None:
        self._judged += 1
        self._struck.clear()
        self._tell(Event(Kind.ENDED, item.name, evaluation))

    def _failed(self, item: Item, error: Exception) -> None:
        if isinstance(error, ProblemError):
            self._tell(Event(Kind.FAULT, item.name, text=str(error)))
            return
        # A tool that is missing and a slip of ours say nothing about the device.
        if isinstance(error, HarnessFault) and not isinstance(error, BuildFault):
            self._struck.add(item.name)
            if (reason := self._illness(error)) is not None:
                if not self._ready.closed:
                    self._lose(reason, item)
                return
        item.tries += 1
        item.failed_on |= {self._number}
        if item.tries >= _TRIES:
            self._tell(Event(Kind.FAULT, item.name, text=_words(error)))
        else:
            self._ready.put(item)

    def _illness(self, error: HarnessFault) -> str | None:
        """What ails the device after a failure of ours on it, if anything does."""
        if isinstance(error, DeviceFault):  # the driver has said so already
            return str(error)
        reason = self._ails(self._grader.examine)
        if reason is None and len(self._struck) >= _STRIKES:
            reason = self._ails(self._clock_a_reference)
            self._struck.clear()
        return reason

    def _ails(self, check: Callable[[], None]) -> str | None:
        """What a check says, if it says the same several times in a while."""
        reason = None
        for pause in _PAUSES:
            if self._ready.closes_within(pause):
                return reason or "the batch was given up"
            try:
                check()
                return None
            except HarnessError as error:
                reason = str(error)
        return reason

    def _clock_a_reference(self) -> None:
        """Have the device do everything that a judgement needs, with no candidate about.

        Raises:
            DeviceFault: it cannot.
        """
        if self._grader.device.kind is DeviceKind.EMULATED:
            return  # it is a library on the processor, and cannot clock
        try:
            _, failures = self._grader.baseline(find(_CONTROL), None, ("eager",))
        except HarnessFault as error:
            raise DeviceFault(f"it cannot judge our own reference: {error}") from error
        if failures:
            raise DeviceFault(f"it cannot judge our own reference: {failures['eager']}")

    def _lose(self, reason: str, item: Item | None) -> None:
        """Take the device out; what it had in hand is for the others, and not held against it."""
        name = self._grader.name
        self.lost = LostDevice(device=name, reason=reason)
        self._ready.leave(self._number)
        if item is not None:
            item.losses += 1
            if item.losses >= _LOSSES:
                text = f"{item.losses} devices fell ill while this was judged, the last: {reason}"
                self._tell(Event(Kind.FAULT, item.name, text=text))
            else:
                self._ready.put(item)
        self._tell(Event(Kind.DEVICE_LOST, name, text=reason))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
