"""Admission: shipped problems refuse every dummy; a problem that does not is named, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.admission import Admission, DummyResult
from harness.errors import ProblemError
from harness.grader import Grader
from harness.problems import ProblemFile, find, listing

FEW = {"conv2d", "softmax"}
"""Shipped problems that are admitted every time; ``make test-all`` admits all."""
SHIPPED = [
    pytest.param(f.name, marks=[] if f.name in FEW else [pytest.mark.exhaustive])
    for f in listing()
    if isinstance(f, ProblemFile)
]
WRITTEN = """
import torch
from torch import nn

{declared}


class Model(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x):
        return {result}


def get_inputs():
    return [torch.rand(8, 33)]


def get_init_inputs():
    return []
"""


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader("cpu", clocked=False) as opened:
        yield opened


def written(folder: Path, result: str, declared: str = "") -> ProblemFile:
    path = folder / "written.py"
    path.write_text(WRITTEN.format(result=result, declared=declared))
    return ProblemFile.read(path)


def slipping(record: Admission) -> set[str]:
    return {d.name for d in record.dummies if not d.as_it_must}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_problem_refuses_every_dummy(grader: Grader, name: str) -> None:
    record = grader.admit(find(name))
    assert slipping(record) == set()
    assert record.trusted
    by_name = {d.name: d for d in record.dummies}
    assert by_name["operands in bfloat16"].trials > 20


def test_half_precision_is_told_from_tf32_by_its_range_alone(grader: Grader) -> None:
    by_name = {d.name: d for d in grader.admit(find("conv2d")).dummies}
    assert by_name["operands in TF32"].must == "pass"
    half = by_name["operands in float16"]
    assert 0 < half.trials - half.passed < half.trials / 4


@pytest.mark.parametrize(
    ("result", "declared", "dummy"),
    [
        ("0 * x", "", "zeros"),
        ("torch.ones_like(x) + 0 * x", "", "ones"),
        ("x + 0", "", "the first input of the output's shape"),
        ("torch.tanh(x)", 'TOLERANCE = {"multiple": 3.0, "floor": 0.1}', "operands in bfloat16"),
        ("x.sum(1) * 0 + 3", "", "the output for other inputs"),
    ],
)
def test_a_problem_that_lets_a_dummy_pass_is_not_trusted_and_the_dummy_is_named(
    grader: Grader, tmp_path: Path, result: str, declared: str, dummy: str
) -> None:
    record = grader.admit(written(tmp_path, result, declared))
    assert not record.trusted
    assert dummy in slipping(record)


def test_without_gradients_only_outputs_are_asked_for(grader: Grader, tmp_path: Path) -> None:
    record = grader.admit(written(tmp_path, "torch.tanh(x)", 'GRADIENTS = "off"'))
    by_name = {d.name: d for d in record.dummies}
    assert by_name["gradients of zero"].trials == 0
    assert by_name["gradients of zero"].as_it_must
    assert record.trusted


def test_a_problem_whose_reference_fails_is_refused_in_a_sentence(
    grader: Grader, tmp_path: Path
) -> None:
    with pytest.raises(ProblemError, match="the reference fails"):
        grader.admit(written(tmp_path, "x @ x"))


def test_a_dummy_that_passes_more_than_it_tried_is_no_record() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        DummyResult(name="zeros", must="fail", trials=2, passed=3)
