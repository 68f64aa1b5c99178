"""On the emulated device right kernels pass under every order, and each seeded bug is named.

A part of both sets is judged here; ``make test-all`` judges the rest too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.pool import batch
from harness.records import DeviceKind, Evaluation, Severity
from tests.emulation.conftest import NEEDS_EMULATION
from tests.emulation.expectations import BLIND, BUGS, PROBLEMS, RIGHT, expected

pytestmark = NEEDS_EMULATION

FEW_RIGHT = {"argmax_rows__spin_lock"}
FEW_BUGS = {
    # decided before a build
    "row_sum__async_copy",
    "row_sum__cub_block_reduce",
    "row_sum__grid_barrier",
    "row_sum__thrust_sum",
    "softmax_rows__kernel_called_like_a_function",
    "squared_relu__cuda_graph",
    "squared_relu__host_function_in_kernel",
    "squared_relu__inline_ptx",
    "squared_relu__kernels_never_launched",
    "squared_relu__texture",
    # decided by running
    "row_sum__barrier_missing_in_tree",
    "row_sum__read_past_the_end",
    "row_sum__shared_array_too_small",
}

Judged = dict[str, Evaluation]


def judge(paths: Iterable[Path], scratch: Path) -> Judged:
    """One batch; the evaluations by file stem."""
    folder = scratch / "generations"
    folder.mkdir()
    for path in paths:
        shutil.copy(path, folder)
    done = batch(folder, scratch / "run", problems=PROBLEMS, device="emulated")
    assert not done.faults
    return {Path(e.generation).stem: e for e in done.evaluations}


def chosen(paths: list[Path], names: set[str], *, rest: bool) -> list[Path]:
    """Those that are judged every time, or the others."""
    assert names <= {p.stem for p in paths}
    return [p for p in paths if (p.stem in names) is not rest]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """What is judged every time."""
    paths = chosen(RIGHT, FEW_RIGHT, rest=False) + chosen(BUGS, FEW_BUGS, rest=False)
    return judge(paths, tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """What takes many minutes."""
    paths = chosen(RIGHT, FEW_RIGHT, rest=True) + chosen(BUGS, FEW_BUGS, rest=True) + BLIND
    return judge(paths, tmp_path_factory.mktemp("rest"))


def check(path: Path, judged: Judged) -> None:
    """The verdict and the finding are those that the candidate's header promises."""
    found, evaluation = expected(path), judged[path.stem]
    said = [f.message for f in evaluation.findings]
    assert evaluation.verdict in found.emulated, said
    assert found.explained(evaluation), said
    assert evaluation.device.kind is DeviceKind.EMULATED
    assert not evaluation.speedups
    if path in RIGHT:
        alarms = [f for f in evaluation.findings if f.severity is not Severity.NOTE]
        assert not alarms, "a right kernel gives no cause for alarm"
        assert evaluation.launches


def stems(paths: list[Path], names: set[str], *, rest: bool) -> pytest.MarkDecorator:
    """One test for each candidate."""
    return pytest.mark.parametrize("path", chosen(paths, names, rest=rest), ids=lambda p: p.stem)


@pytest.mark.timeout(600)
@stems(RIGHT, FEW_RIGHT, rest=False)
def test_a_right_kernel_passes_in_every_order_without_an_alarm(path: Path, few: Judged) -> None:
    check(path, few)


@pytest.mark.timeout(600)
@stems(BUGS, FEW_BUGS, rest=False)
def test_a_seeded_bug_is_found_and_named(path: Path, few: Judged) -> None:
    check(path, few)


def test_what_a_report_names_is_the_line_of_the_bug(few: Judged) -> None:
    for stem in ("row_sum__read_past_the_end", "row_sum__shared_array_too_small"):
        finding = next(f for f in few[stem].findings if f.rule == "emulated.out_of_bounds")
        assert finding.place is not None
        path = next(p for p in BUGS if p.stem == stem)
        lines = path.read_text().splitlines()
        nearby = "\n".join(lines[finding.place.line - 6 : finding.place.line + 2])
        assert "the bug" in nearby or "]" in lines[finding.place.line - 1]
        assert "block (" in finding.message and "thread (" in finding.message


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "path",
    [*chosen(RIGHT, FEW_RIGHT, rest=True), *chosen(BUGS, FEW_BUGS, rest=True), *BLIND],
    ids=lambda p: p.stem,
)
def test_so_are_all_others(path: Path, rest: Judged) -> None:
    check(path, rest)
