"""The terms of a judgement: gradient policies, KernelBench's bare format, dtypes, and faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.errors import OracleFault, ProblemError
from harness.extract import extract
from harness.generation import Generation
from harness.grader import Grader
from harness.problems import ProblemFile, find
from harness.records import Evaluation, GradientPolicy, Gradients, Mode, Stage, Verdict
from harness.settings import Settings
from harness.supervisor import ForkServer
from tests.judging.conftest import EXAMPLES

RIGHT = extract((EXAMPLES / "cpp" / "relu__right.md").read_text()).candidate or ""
"""The same C++ text as everywhere in the tests, so that it is built once."""
FORWARD_ONLY = RIGHT.replace("ReluFunction.apply(x)", "relu_cpu.relu_forward(x)")
BARE = """\
import torch

class Model(torch.nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return torch.relu(x) * self.slope

def get_inputs():
    return [torch.rand(33, 7)]

def get_init_inputs():
    return [1.0]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """One fork server for all of these."""
    started = ForkServer.start()
    yield started
    started.close()


@pytest.fixture(scope="module")
def grader(server: ForkServer) -> Iterator[Grader]:
    """One oracle for all that are judged on the same terms."""
    with Grader("cpu", clocked=False, server=server) as opened:
        yield opened


def judge(grader: Grader, text: str, problem: ProblemFile) -> Evaluation:
    """One judgement."""
    return grader.grade(Generation("answer", text), problem)


def test_a_forward_only_candidate_fails_where_gradients_are_required(grader: Grader) -> None:
    evaluation = judge(grader, FORWARD_ONLY, find("relu"))
    assert evaluation.verdict is Verdict.WRONG_GRADIENTS
    assert evaluation.findings[0].rule == "R06"


@pytest.mark.parametrize(
    ("policy", "said"),
    [(GradientPolicy.OPTIONAL, Gradients.ABSENT), (GradientPolicy.OFF, Gradients.WAIVED)],
)
def test_a_forward_only_candidate_passes_where_gradients_are_not_and_its_record_says_so(
    policy: GradientPolicy, said: Gradients, server: ForkServer
) -> None:
    clocked = policy is GradientPolicy.OPTIONAL
    with Grader("cpu", gradients=policy, clocked=clocked, server=server) as grader:
        evaluation = judge(grader, FORWARD_ONLY, find("relu"))
    assert evaluation.passed, [f.message for f in evaluation.findings]
    assert evaluation.gradients is said
    assert {s.mode for s in evaluation.speedups} == ({Mode.FORWARD} if clocked else set())


def test_optional_gradients_must_be_right_where_there_are_some(server: ForkServer) -> None:
    wrong = RIGHT.replace(
        "return relu_cpu.relu_backward(grad_output, y)",
        "return relu_cpu.relu_backward(grad_output, grad_output)",
    )
    assert wrong != RIGHT
    optional = GradientPolicy.OPTIONAL
    with Grader("cpu", gradients=optional, clocked=False, server=server) as grader:
        assert judge(grader, wrong, find("relu")).verdict is Verdict.WRONG_GRADIENTS


def test_a_file_in_kernelbenchs_bare_format_is_judged_on_every_draw(
    grader: Grader, tmp_path: Path
) -> None:
    path = tmp_path / "19_ReLU.py"
    path.write_text(BARE)
    text = RIGHT.replace("def __init__(self):", "def __init__(self, slope):")
    evaluation = judge(grader, text, ProblemFile.read(path))
    assert evaluation.passed, [f.message for f in evaluation.findings]
    assert {t.case for t in evaluation.trials} == {"headline"}
    drawn = {t.draw for t in evaluation.trials}
    assert {"declared", "mixed", "large", "tiny", "strided", "offset"} <= drawn


def test_the_identity_is_found_out_although_every_declared_input_is_positive(
    grader: Grader, tmp_path: Path
) -> None:
    path = tmp_path / "19_ReLU.py"
    path.write_text(BARE)
    identity = RIGHT.replace("source[i] < 0.0f ? 0.0f : source[i]", "source[i]")
    assert identity != RIGHT
    text = identity.replace("def __init__(self):", "def __init__(self, slope):")
    evaluation = judge(grader, text, ProblemFile.read(path))
    assert evaluation.verdict is Verdict.WRONG_VALUES
    assert [t.draw for t in evaluation.trials if t.passed][:1] == ["declared"]


def test_a_problem_in_float64_refuses_float32_results(grader: Grader, tmp_path: Path) -> None:
    path = tmp_path / "relu64.py"
    path.write_text(BARE + '\nDTYPE = "float64"\n')
    narrow = RIGHT.replace("ReluFunction.apply(x)", "ReluFunction.apply(x.float())")
    text = narrow.replace("def __init__(self):", "def __init__(self, slope):")
    assert judge(grader, text, ProblemFile.read(path)).verdict is Verdict.WRONG_SHAPE


def test_a_candidate_whose_calls_are_each_in_time_cannot_hold_the_device_for_ever(
    server: ForkServer,
) -> None:
    slow = RIGHT.replace("return ReluFunction.apply(x)", "time.sleep(0.5)\n        return x")
    text = slow.replace("return x", "return ReluFunction.apply(x)").replace(
        "import torch\n", "import time\nimport torch\n", 1
    )
    limits = Settings(stage_seconds=2.0)
    with Grader("cpu", clocked=False, settings=limits, server=server) as grader:
        evaluation = judge(grader, text, find("relu"))
    assert evaluation.verdict is Verdict.TIMED_OUT
    assert evaluation.stage_seconds[Stage.VALUES] < 10


def test_a_problem_may_set_precisions_of_its_own_in_either_of_pytorchs_ways(
    grader: Grader, tmp_path: Path
) -> None:
    path = tmp_path / "precise.py"
    own = "torch.backends.cudnn.conv.fp32_precision = 'ieee'\n"
    if not hasattr(torch.backends, "fp32_precision"):
        own = "torch.backends.cudnn.allow_tf32 = False\n"
    path.write_text(BARE.replace("\n\n", f"\n{own}\n", 1))
    text = RIGHT.replace("def __init__(self):", "def __init__(self, slope):")
    assert judge(grader, text, ProblemFile.read(path)).passed


def test_what_goes_wrong_with_the_reference_is_a_fault_and_no_verdict(
    server: ForkServer, tmp_path: Path
) -> None:
    path = tmp_path / "flaky.py"
    # Right in the oracle, whose working directory is not a worker's.
    broken = 'import os\nif os.path.exists("candidate.py"): raise OSError("not here")\n'
    path.write_text(broken + BARE)
    text = RIGHT.replace("def __init__(self):", "def __init__(self, slope):")
    with Grader("cpu", server=server) as grader, pytest.raises(OracleFault, match="not here"):
        judge(grader, text, ProblemFile.read(path))


def test_a_reference_that_does_not_fit_is_the_problems_fault_and_not_the_candidates(
    grader: Grader, tmp_path: Path
) -> None:
    path = tmp_path / "huge.py"
    full = 'raise torch.OutOfMemoryError("no memory left")'
    path.write_text(BARE.replace("return torch.relu(x) * self.slope", full))
    text = RIGHT.replace("def __init__(self):", "def __init__(self, slope):")
    with pytest.raises(ProblemError, match=r"huge\.py.*does not fit"):
        judge(grader, text, ProblemFile.read(path))


def test_a_problem_that_cannot_judge_says_so_and_no_candidate_is_blamed(
    grader: Grader, tmp_path: Path
) -> None:
    path = tmp_path / "dropout.py"
    path.write_text(BARE.replace("torch.relu(x)", "torch.nn.functional.dropout(x, 0.5)"))
    text = RIGHT.replace("def __init__(self):", "def __init__(self, slope):")
    with pytest.raises(ProblemError, match=r"dropout\.py.*random"):
        judge(grader, text, ProblemFile.read(path))
