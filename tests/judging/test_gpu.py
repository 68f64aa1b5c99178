"""On a real GPU: solutions pass, and what is wrong is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.generation import Generation
from harness.grader import Grader
from harness.problems import ProblemFile, find
from harness.records import Gradients, Mode, Stage, Verdict
from harness.settings import Settings
from tests.judging.conftest import HOSTILE, ROOT, expectation
from tests.solutions.convolution import rounded

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    """One oracle for all, as in a batch."""
    with Grader("cuda", settings=Settings(clock_seconds=1.0)) as opened:
        yield opened


@pytest.mark.parametrize("problem", ["relu", "softmax", "matmul", "layer_norm", "conv2d"])
def test_a_vetted_solution_passes_with_gradients_and_three_speedups(
    grader: Grader, problem: str
) -> None:
    text = (ROOT / "solutions" / f"{problem}.py").read_text()
    evaluation = grader.grade(Generation(problem, text), find(problem))
    assert evaluation.verdict is Verdict.PASSED, [f.message for f in evaluation.findings]
    assert evaluation.gradients is Gradients.CHECKED
    assert {s.mode for s in evaluation.speedups} == set(Mode)
    assert any(t.case == "headline" for t in evaluation.trials)
    assert evaluation.policy.sandbox == "namespaces"


@pytest.mark.parametrize("problem", ["relu", "softmax", "matmul", "layer_norm", "conv2d"])
def test_a_vetted_solution_is_right_to_the_last_digits_in_float64(
    grader: Grader, problem: str, tmp_path: Path
) -> None:
    shipped = find(problem)
    path = tmp_path / f"{problem}_float64.py"
    path.write_text(shipped.source + '\nDTYPE = "float64"\nTF32 = "forbidden"\n')
    text = (ROOT / "solutions" / f"{problem}.py").read_text()
    evaluation = grader.grade(Generation(problem, text), ProblemFile.read(path))
    assert evaluation.verdict is Verdict.PASSED, [f.message for f in evaluation.findings]
    budgets = [c.budget.relative_l2 for t in evaluation.trials for c in t.comparisons]
    assert min(budgets) < 1e-13


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_convolution_that_rounds_its_operands_to_a_half_format_does_not_pass(
    grader: Grader, dtype: str
) -> None:
    evaluation = grader.grade(Generation(dtype, rounded(dtype)), find("conv2d"))
    assert evaluation.verdict is Verdict.WRONG_VALUES


def test_a_second_grader_on_the_same_gpu_is_refused_in_one_sentence(grader: Grader) -> None:
    text = (ROOT / "solutions" / "relu.py").read_text()
    assert grader.grade(Generation("relu", text), find("relu")).passed
    with (
        Grader("cuda", clocked=False) as second,
        pytest.raises(UsageError, match="another Grader"),
    ):
        second.grade(Generation("relu", text), find("relu"))


@pytest.mark.parametrize("path", sorted((HOSTILE / "cuda").glob("*.py")), ids=lambda p: p.stem)
def test_a_candidate_that_ruins_its_cuda_context_ruins_nothing_else(
    grader: Grader, path: Path
) -> None:
    text = path.read_text()
    evaluation = grader.grade(Generation("hostile", text), find("relu"))
    assert evaluation.verdict == expectation(text), [f.message for f in evaluation.findings]
    honest = (ROOT / "solutions" / "relu.py").read_text()
    after = grader.grade(Generation("honest", honest), find("relu"))
    assert after.passed, [f.message for f in after.findings]


@pytest.mark.parametrize("path", sorted((HOSTILE / "clock").glob("*.py")), ids=lambda p: p.stem)
def test_a_candidate_that_cheats_the_clock_is_found_out(grader: Grader, path: Path) -> None:
    text = path.read_text()
    evaluation = grader.grade(Generation("hostile", text), find("softmax"))
    assert evaluation.verdict in expectation(text).split("|"), evaluation.verdict
    assert evaluation.stage is Stage.TIME
    assert not evaluation.speedups


def test_the_reference_against_itself_is_one(grader: Grader) -> None:
    speedups, failures = grader.baseline(find("matmul"), None, ("eager",))
    assert not failures
    assert {s.mode for s in speedups["eager"]} == set(Mode)
    for measured in speedups["eager"]:
        assert abs(measured.speedup - 1) < 0.01
        assert measured.telemetry is not None
        assert measured.spot_checks >= 3
