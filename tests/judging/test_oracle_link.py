"""An oracle gets ready while a candidate is built, and nothing depends on that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import ProblemError
from harness.generation import Generation
from harness.grader import Grader
from harness.problems import ProblemFile, find
from harness.records import Verdict
from tests.judging.conftest import EXAMPLES

PROBLEM = """
import time

import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x):
        {act}
        return torch.relu(x)


def get_inputs():
    return [torch.randn(64)]


def get_init_inputs():
    return []
"""


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader("cpu", clocked=False) as opened:
        yield opened


def problem(folder: Path, act: str) -> ProblemFile:
    path = folder / "acting.py"
    path.write_text(PROBLEM.format(act=act))
    return ProblemFile.read(path)


def relu() -> Generation:
    return Generation.read(EXAMPLES / "cpp" / "relu__right.md")


def test_the_oracle_that_got_ready_is_the_one_that_judges(grader: Grader) -> None:
    grader._expect(find("relu"))
    evaluation = grader.grade(relu(), find("relu"))
    judged_by = grader._oracle.oracle
    assert evaluation.verdict is Verdict.PASSED
    assert judged_by is not None
    grader._expect(find("relu"))
    assert grader.grade(relu(), find("relu")).passed
    assert grader._oracle.oracle is judged_by


def test_what_fails_ahead_is_told_when_it_is_asked(grader: Grader, tmp_path: Path) -> None:
    broken = problem(tmp_path, "raise RuntimeError('no such thing')")
    grader._expect(broken)
    with pytest.raises(ProblemError, match="no such thing"):
        grader.judge(grader.read(relu(), broken))
    assert grader.grade(relu(), find("relu")).passed


@pytest.mark.exhaustive
def test_an_oracle_that_gets_ready_can_be_ended_at_once(grader: Grader, tmp_path: Path) -> None:
    grader.grade(relu(), find("relu"))  # everything has started
    grader._expect(problem(tmp_path, "time.sleep(100)"))
    time.sleep(1)
    begun = time.perf_counter()
    grader._oracle.drop()
    assert time.perf_counter() - begun < 20
    assert grader.grade(relu(), find("relu")).passed
