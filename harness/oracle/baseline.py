"""The reference's own worker, kept from one candidate to the next.

It never holds a candidate, so it may outlive them; between two it gives its memory back. Who fails
while it is in use leaves it in an unknown state, and the next one gets a new worker. Only a
candidate's own end does not.

Does not: clock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from harness.oracle.session import Session
from harness.oracle.stop import Stop

Opened = contextlib.AbstractContextManager[Session]


class Baseline:
    """A session with the reference's module, opened when it is first needed."""

    def __init__(self, make: Callable[[], Opened], load: Callable[[Session], None]) -> None:
        self._make = make
        self._load = load
        self._session: Session | None = None
        self._opened = contextlib.ExitStack()

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """The session, for one candidate's clocking.

        Raises:
            OracleFault: the reference cannot be loaded.
        """
        try:
            if self._session is None:
                self._session = self._opened.enter_context(self._make())
                self._load(self._session)
            try:
                yield self._session
            finally:
                self._session.rest()
        except Stop:
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the worker."""
        self._session = None
        self._opened.close()
