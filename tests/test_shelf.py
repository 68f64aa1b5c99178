"""Which candidate comes next: nothing is lost, nobody idles, and problems are seldom reloaded."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harness.pool.shelf import Shelf, spread

DEVICES = st.integers(0, 3)
PROBLEMS = st.sampled_from("abcd")


class ShelfMachine(RuleBasedStateMachine):
    """A shelf beside a plain list of what is on it."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf: Shelf[tuple[str, int]] = Shelf()
        self.there: dict[tuple[str, int], frozenset[int]] = {}
        self.loaded: dict[int, str | None] = {}
        self.count = 0

    @rule(problem=PROBLEMS, shunned=st.frozensets(DEVICES, max_size=2))
    def put(self, problem: str, shunned: frozenset[int]) -> None:
        self.count += 1
        self.shelf.put(problem, (problem, self.count), shunned)
        self.there[problem, self.count] = shunned

    @rule(device=DEVICES)
    def join(self, device: int) -> None:
        if device not in self.loaded:
            self.shelf.join(device)
            self.loaded[device] = None

    @rule(device=DEVICES)
    def leave(self, device: int) -> None:
        self.shelf.leave(device)
        self.loaded.pop(device, None)

    @precondition(lambda self: self.loaded)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.loaded)))
        allowed = {item for item, shunned in self.there.items() if self.may(device, shunned)}
        taken = self.shelf.take(device)
        assert (taken is None) == (not allowed), "a device idles only if nothing is ready for it"
        if taken is None:
            return
        assert taken in allowed
        problem, number = taken
        assert number == min(n for p, n in allowed if p == problem), "the oldest comes first"
        wanted = {p for p, _ in allowed}
        if self.loaded[device] in wanted:
            assert problem == self.loaded[device], "a device keeps the problem it has loaded"
        elif free := wanted - set(self.loaded.values()):
            assert problem in free, "a problem that nobody has comes before one that is loaded"
        del self.there[taken]
        self.loaded[device] = problem

    def may(self, device: int, shunned: frozenset[int]) -> bool:
        return device not in shunned or shunned >= set(self.loaded)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.shelf) == len(self.there)

    @invariant()
    def somebody_may_have_whatever_is_there(self) -> None:
        for shunned in self.there.values():
            assert not self.loaded or any(self.may(device, shunned) for device in self.loaded)


TestShelf = ShelfMachine.TestCase


def test_one_device_loads_each_problem_once_if_everything_is_ready() -> None:
    shelf: Shelf[str] = Shelf()
    shelf.join(0)
    for name in "abcabcabc":
        shelf.put(name, name)
    taken = [shelf.take(0) or "" for _ in range(9)]
    assert sum(one != other for one, other in itertools.pairwise(taken)) == 2
    assert shelf.take(0) is None


def test_devices_share_the_problem_with_the_most_left_for_each() -> None:
    shelf: Shelf[str] = Shelf()
    for device in range(3):
        shelf.join(device)
    for name in "aabbbbbb":
        shelf.put(name, name)
    assert [shelf.take(0), shelf.take(1), shelf.take(2)] == ["b", "a", "b"]


@given(st.lists(st.tuples(PROBLEMS, st.integers())), st.integers(0, 5))
def test_preparation_reaches_every_task_in_the_order_of_its_problem(
    tasks: list[tuple[str, int]], devices: int
) -> None:
    ordered = spread(tasks, lambda task: task[0], devices)
    assert Counter(ordered) == Counter(tasks)
    for problem in "abcd":
        mine = [t for t in tasks if t[0] == problem]
        assert [t for t in ordered if t[0] == problem] == mine


@given(st.integers(1, 4), st.integers(1, 6))
def test_each_device_has_a_problem_of_its_own_from_the_start(devices: int, samples: int) -> None:
    tasks = [problem for problem in "abcd" for _ in range(samples)]
    ordered = spread(tasks, lambda task: task, devices)
    assert len(set(ordered[:devices])) == devices
