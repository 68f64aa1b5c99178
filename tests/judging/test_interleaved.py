"""Two forwards before the first one's backward, and outputs that must outlive both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.extract import extract
from harness.generation import Generation
from harness.grader import Grader
from harness.problems import ProblemFile, find
from harness.records import Evaluation, Stage, Verdict
from tests.judging.conftest import EXAMPLES

RIGHT = extract((EXAMPLES / "cpp" / "relu__right.md").read_text()).candidate or ""
"""The same C++ text as everywhere in the tests, so that it is built once."""
NORMALISED = """\
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(7)

    def forward(self, x):
        return torch.relu(self.norm(x))

def get_inputs():
    return [torch.randn(33, 7)]

def get_init_inputs():
    return []
"""


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    """One fork server and one oracle for all of these."""
    with Grader("cpu", clocked=False) as opened:
        yield opened


def judge(grader: Grader, problem: ProblemFile, *changes: tuple[str, str]) -> Evaluation:
    """The right candidate with some changes."""
    text = RIGHT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return grader.grade(Generation("answer", text), problem)


def failed(evaluation: Evaluation) -> set[str]:
    """The draws of the trials in which a comparison failed."""
    return {t.draw for t in evaluation.trials if not t.passed}


SAVES = "ctx.save_for_backward(y)"
LOADS = "(y,) = ctx.saved_tensors"


@pytest.mark.parametrize(
    ("saves", "loads"),
    [
        ("ReluFunction.y = y.detach()", "y = ReluFunction.y"),
        ("LATEST[:] = [y.detach()]", "y = LATEST[0]"),
        ("ctx.at = x.shape; LATEST[x.shape] = y.detach()", "y = LATEST[ctx.at]"),
    ],
    ids=["on the class", "in a list of the module", "by shape"],
)
def test_a_backward_that_takes_the_latest_forward_s_output_is_found_by_that_draw_alone(
    grader: Grader, saves: str, loads: str
) -> None:
    kept = "{}" if "shape" in saves else "[]"
    module = ("class ReluFunction", f"LATEST = {kept}\n\nclass ReluFunction")
    evaluation = judge(grader, find("relu"), module, (SAVES, saves), (LOADS, loads))
    assert evaluation.verdict is Verdict.WRONG_GRADIENTS
    assert failed(evaluation) == {"interleaved"}
    (finding, *_) = evaluation.findings
    assert "interleaved" in finding.message
    assert "save tensors for the backward with ctx.save_for_backward" in (finding.advice or "")


def test_what_is_kept_for_each_forward_of_its_own_passes(grader: Grader) -> None:
    evaluation = judge(grader, find("relu"), (SAVES, "ctx.y = y.detach()"), (LOADS, "y = ctx.y"))
    assert evaluation.passed, [f.message for f in evaluation.findings]
    assert {"interleaved", "off_centre"} <= {t.draw for t in evaluation.trials}


def test_an_output_that_the_next_forward_overwrites_is_found(grader: Grader) -> None:
    reused = "y = KEPT.setdefault(x.shape, y).copy_(y)"
    evaluation = judge(
        grader,
        find("relu"),
        ("class ReluFunction", "KEPT = {}\n\nclass ReluFunction"),
        (SAVES, f"ctx.y = y.clone()\n        {reused}\n        return y.detach()"),
        (LOADS, "y = ctx.y"),
    )
    assert evaluation.verdict is Verdict.WRONG_VALUES
    found = {f.rule: f for f in evaluation.findings}["values.output_changed"]
    assert "interleaved" in found.message
    assert "a later forward overwrote" in found.message


def test_an_output_that_its_backward_overwrites_is_found(grader: Grader) -> None:
    over = "return y.data.copy_(relu_cpu.relu_backward(grad_output, y))"
    evaluation = judge(
        grader, find("relu"), ("return relu_cpu.relu_backward(grad_output, y)", over)
    )
    assert evaluation.verdict is Verdict.WRONG_VALUES
    assert {f.rule for f in evaluation.findings} == {"values.output_changed"}
    assert all("its backward overwrote" in f.message for f in evaluation.findings)


def test_buffers_are_judged_after_one_forward_where_another_comes_between(
    grader: Grader, tmp_path: Path
) -> None:
    """The norm is PyTorch's own, so what passes every trial is stopped by the audit."""
    path = tmp_path / "normalised.py"
    path.write_text(NORMALISED)
    problem = ProblemFile.read(path)
    made = ("super().__init__()", "super().__init__()\n        self.norm = nn.BatchNorm1d(7)")
    evaluation = judge(
        grader, problem, made, ("ReluFunction.apply(x)", "ReluFunction.apply(self.norm(x))")
    )
    assert evaluation.stage is Stage.AUDIT, [f.message for f in evaluation.findings]
    (trial,) = [t for t in evaluation.trials if t.draw == "interleaved"]
    assert trial.passed
    judged = {c.tensor for c in trial.comparisons}
    assert judged >= {"norm.running_mean", "norm.num_batches_tracked", "gradient of norm.weight"}
