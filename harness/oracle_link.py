"""The grader's end of an oracle: opened when it is asked, or ahead; replaced when it fails.

Does not: know what is asked, or hold the device (it is told how to).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

from harness.errors import HarnessFault, OracleFault, ProblemError
from harness.records import Stage
from harness.supervisor import Child, ChildEnded
from harness.wire import Message

Artifact = Callable[[Message], tuple[Message, list[int]]]
"""Answers a spec that a worker asks for: a message and descriptors, which are closed then."""
Report = Callable[[Stage], None]

_OPENING_SECONDS = 300.0


def no_artifact(_: Message) -> tuple[Message, list[int]]:
    """The answer where nobody is expected to ask for one."""
    return {}, []


class OracleLink:
    """At most one oracle at a time, for one device."""

    def __init__(self, make: Callable[[], Child], opening: Callable[[], Message]) -> None:
        """``make`` starts an oracle's process, ``opening`` says what it is told first."""
        self._make = make
        self._opening = opening
        self._oracle: Child | None = None
        self._lock = threading.RLock()
        self._expecting: threading.Thread | None = None

    @property
    def oracle(self) -> Child | None:
        """The oracle's process, while there is one."""
        return self._oracle

    def ask(
        self,
        message: Message,
        seconds: float,
        artifact: Artifact = no_artifact,
        report: Report | None = None,
    ) -> dict[str, Any]:
        """What an oracle answers, which is opened if there is none.

        Args:
            message: The request.
            seconds: How long the oracle may say nothing.
            artifact: Gives the oracle what a worker asks for.
            report: Called when a stage begins.

        Raises:
            OracleFault: it failed; the next request goes to another.
            ProblemError: the problem cannot be executed.
        """
        with self._lock:
            try:
                oracle = self._open()
                oracle.post(message)
                return _answer(oracle, seconds, artifact, report)
            except ChildEnded as error:
                self.drop()
                raise OracleFault(f"the oracle died: {error} {error.output}") from error
            except ProblemError:
                raise
            except BaseException:  # an answer to this must not meet the next request
                self.drop()
                raise

    def expect(self, message: Message, seconds: float) -> None:
        """Have an oracle opened and get ready while the caller does something else.

        Whatever fails is left for the next request to find out.
        """
        begun = threading.Event()

        def get_ready() -> None:
            with self._lock, contextlib.suppress(HarnessFault, ProblemError):
                begun.set()
                self.ask(message, seconds)

        self._expecting = threading.Thread(target=get_ready, daemon=True)
        self._expecting.start()
        begun.wait()  # the next request comes after this one

    def drop(self) -> None:
        """End the oracle; whoever waits for its answer gets a fault."""
        waiting, oracle = self._expecting, self._oracle
        if waiting is not None and waiting is not threading.current_thread():
            if oracle is not None:
                oracle.stop()  # its descriptors must stay open while that thread reads them
            waiting.join()
            self._expecting = None
        oracle, self._oracle = self._oracle, None
        if oracle is not None:
            oracle.kill()

    def _open(self) -> Child:
        if self._oracle is None:
            self._oracle = oracle = self._make()
            oracle.post(self._opening())
            hello = oracle.next(_OPENING_SECONDS)
            if "fault" in hello:
                raise OracleFault(hello["fault"])
        return self._oracle


def _answer(
    oracle: Child, seconds: float, artifact: Artifact, report: Report | None
) -> dict[str, Any]:
    while True:
        reply = oracle.next(seconds)
        if "done" in reply:
            done: dict[str, Any] = reply["done"]
            return done
        if "stage" in reply and report is not None:
            report(Stage(reply["stage"]))
        elif "build" in reply:
            answer, fds = artifact(reply["build"])
            oracle.post(answer, fds)
            for fd in fds:
                os.close(fd)
        elif "problem" in reply:
            raise ProblemError(reply["problem"])
        elif "fault" in reply:
            raise OracleFault(f"{reply['fault']}\n{reply.get('traceback', '')}")
