"""The nursery: a worker is there when it is wanted, one at a time, and none is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest

from harness.errors import ForkServerFault
from harness.oracle.nursery import Nursery, Worker
from harness.settings import Settings
from harness.supervisor import Child, ForkServer, Limits


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    started = ForkServer.start()
    yield started
    started.close()


def test_what_was_expected_is_taken_once_and_the_next_is_another(server: ForkServer) -> None:
    made: list[Worker] = []

    def make() -> Worker:
        made.append(Worker(Child.confined(server, "worker", Limits.of(Settings()))))
        return made[-1]

    nursery = Nursery(make)
    nursery.expect()
    nursery.expect()
    nursery.settle()
    assert len(made) == 1
    first = nursery.take()
    second = nursery.take()
    assert [first, second] == made
    assert first.child.pid != second.child.pid
    nursery.expect()
    nursery.close()
    assert len(made) == 3
    last = made[2].child.pid
    psutil.wait_procs([psutil.Process(last)] if psutil.pid_exists(last) else [], 10)
    assert not psutil.pid_exists(last)
    first.end()
    second.end()


def test_a_worker_that_cannot_be_made_ahead_is_made_when_it_is_needed() -> None:
    tried: list[int] = []

    def make() -> Worker:
        tried.append(os.getpid())
        raise ForkServerFault("the fork server does not answer")

    nursery = Nursery(make)
    nursery.expect()
    nursery.settle()
    with pytest.raises(ForkServerFault):
        nursery.take()
    assert len(tried) == 2
    nursery.close()
