"""The two sets of candidates: complete headers, names that fit, kernels that pass the screening."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.problems import ProblemFile
from harness.records import Verdict
from harness.screening import screen, signature_of
from tests.emulation.expectations import BLIND, BUGS, FOLDER, PROBLEMS, RIGHT, expected

FEWEST = 25
PROBLEM_FILES = sorted(PROBLEMS.glob("*.py"))


def stem(path: Path) -> str:
    return path.stem


def test_there_are_enough_of_both() -> None:
    assert len(RIGHT) >= FEWEST
    assert len(BUGS) >= FEWEST


@pytest.mark.parametrize("path", PROBLEM_FILES, ids=stem)
def test_every_problem_is_one_and_is_used(path: Path) -> None:
    problem = ProblemFile.read(path)
    assert problem.cases >= 3
    used = {expected(candidate).problem for candidate in RIGHT}
    assert path in used, "no right candidate answers it"


@pytest.mark.parametrize("path", [*RIGHT, *BUGS, *BLIND], ids=stem)
def test_every_header_is_complete(path: Path) -> None:
    found = expected(path)
    problem, separator, feature = path.stem.partition("__")
    assert separator and feature
    assert found.problem == PROBLEMS / f"{problem}.py"
    assert found.problem.is_file()
    if path in RIGHT:
        assert found.emulated == found.h100 == {Verdict.PASSED}
    elif path in BLIND:
        assert found.emulated == {Verdict.PASSED}
        assert Verdict.PASSED not in found.h100
    else:
        assert found.words, "a bug's finding must be known by some words"
        text = path.read_text(encoding="utf-8")
        assert "the bug: " in text or Verdict.UNSUPPORTED in found.emulated


@pytest.mark.parametrize("path", [*RIGHT, *BUGS, *BLIND], ids=stem)
def test_only_what_is_to_be_rejected_fails_the_screening(path: Path) -> None:
    found = expected(path)
    source = path.read_text(encoding="utf-8")
    screening = screen(source, signature_of(found.problem.read_text(encoding="utf-8")))
    # What a compiler is going to say is left for the compiler to say.
    rejected = [f for f in screening.errors if not f.rule.startswith("build.")]
    assert not rejected or found.emulated == found.h100 == {Verdict.REJECTED}, rejected
    assert not screening.errors or path in BUGS + BLIND
    assert screening.syntax_ok
    assert screening.extensions == 1


def test_nothing_else_lies_in_the_folders() -> None:
    """A file with another ending, or in a folder below, would never be judged."""
    known = {*RIGHT, *BUGS, *BLIND, *PROBLEM_FILES}
    here = {
        path
        for folder in ("right", "bugs", "blind", "problems")
        for path in (FOLDER / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here == known
