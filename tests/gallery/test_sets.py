"""The gallery's three sets: enough of each, complete headers, expectations that make sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.problems import ProblemFile, listing
from harness.records import Verdict
from tests.gallery.expectations import CHEATS, FLAWED, FOLDER, HONEST, entry

FEWEST_WRONG, FEWEST_HONEST = 60, 30
HARMLESS = {
    "matmul__second_input_kept_in_l2",
    "matmul__undefined_name_in_untaken_branch",
    "relu__builds_elsewhere",
    "relu__daemon_from_a_constructor",
    "relu__ends_its_parent",
    "relu__forks_sixty_four_children",
    "relu__keeps_all_cores_busy",
    "relu__loads_that_evict_last",
    "relu__own_ptx_through_the_driver",
    "relu__prefetches_during_the_hold",
    "relu__remembers_sixteen_samples",
    "relu__runs_shell_in_its_flags",
    "relu__slow_host_clock",
    "relu__slows_the_reference",
    "relu__wraps_the_compiler",
    "softmax__keeps_every_output",
}
"""What gains nothing and hurts nobody, as its text says: it may pass."""
BY_CHANCE = {"matmul__split_inner_into_unset_memory", "matmul__tile_overwritten_early"}
"""What a GPU may get right by chance."""


def stem(path: Path) -> str:
    return path.stem


def test_there_are_enough_of_both_sides() -> None:
    assert len(FLAWED) + len(CHEATS) >= FEWEST_WRONG
    assert len(HONEST) >= FEWEST_HONEST


@pytest.mark.parametrize("path", [*HONEST, *FLAWED, *CHEATS], ids=stem)
def test_every_entry_says_what_it_does_and_what_it_must_get(path: Path) -> None:
    found = entry(path)
    assert found.problem in {p.name for p in listing() if isinstance(p, ProblemFile)}
    assert found.does.endswith(".")
    if path in HONEST:
        assert found.h100 == {Verdict.PASSED}
        assert found.emulated in ({Verdict.PASSED}, {Verdict.UNSUPPORTED})
    elif path.stem not in HARMLESS | BY_CHANCE:
        assert Verdict.PASSED not in found.h100


def test_what_may_pass_is_there() -> None:
    assert {p.stem for p in (*FLAWED, *CHEATS)} >= HARMLESS | BY_CHANCE


def test_nothing_else_lies_in_the_folders() -> None:
    """A file with another ending, or in a folder below, would never be judged."""
    here = {
        path
        for folder in ("honest", "flawed", "cheats")
        for path in (FOLDER / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here == {*HONEST, *FLAWED, *CHEATS}
