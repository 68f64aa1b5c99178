"""Every entry of the gallery gets the verdict that it must get, on the emulated device.

What is decided without a build, and a part of the rest, is judged here; ``make test-all`` judges
all, and ``benchmarks/gallery.py OUT cuda`` all on a GPU.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.pool import batch
from harness.problems import find
from harness.records import DeviceKind, Evaluation
from harness.screening import screen, signature_of
from tests.emulation.conftest import NEEDS_EMULATION, environment  # noqa: F401
from tests.gallery.expectations import CHEATS, FLAWED, HONEST, entry

pytestmark = NEEDS_EMULATION

ALL = [*HONEST, *FLAWED, *CHEATS]
FEW = {
    "matmul__hides_aten_from_the_census",
    "relu__reads_the_vetted_solution",
}
"""Of what is built, those that are judged every time."""
OPEN: dict[str, str] = {}
"""Entries that do not get their verdict yet, and why."""


def decided_by_text(path: Path) -> bool:
    """Whether it is rejected for what it says, so that nothing is built of it."""
    text = path.read_text(encoding="utf-8")
    return bool(screen(text, signature_of(find(entry(path).problem).source)).errors)


SOON = [p for p in ALL if p.stem in FEW or decided_by_text(p)]
LATER = [p for p in ALL if p not in SOON]


def each(paths: list[Path]) -> list[object]:
    """One test for each; those that are open must fail, so that none is forgotten."""
    return [
        pytest.param(
            path,
            id=path.stem,
            marks=[pytest.mark.xfail(reason=OPEN[path.stem], strict=True)]
            if path.stem in OPEN
            else [],
        )
        for path in paths
    ]


Judged = dict[str, Evaluation]


def judge(paths: Iterable[Path], scratch: Path) -> Judged:
    """One batch, honest and hostile among each other; the evaluations by file stem."""
    folder = scratch / "generations"
    folder.mkdir()
    for path in paths:
        shutil.copy(path, folder)
    done = batch(folder, scratch / "run", device="emulated")
    assert not done.faults
    return {Path(e.generation).stem: e for e in done.evaluations}


@pytest.fixture(scope="module")
def soon(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """What is judged every time."""
    return judge(SOON, tmp_path_factory.mktemp("soon"))


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """What takes many minutes."""
    return judge(LATER, tmp_path_factory.mktemp("later"))


def check(path: Path, judged: Judged) -> None:
    """The verdict is one that the candidate's header promises."""
    evaluation = judged[path.stem]
    assert evaluation.verdict in entry(path).emulated, [f.message for f in evaluation.findings]
    assert evaluation.device.kind is DeviceKind.EMULATED


def test_those_that_are_judged_every_time_exist() -> None:
    assert {p.stem for p in ALL} >= FEW | OPEN.keys()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", each(SOON))
def test_an_entry_gets_the_verdict_that_it_must_get(path: Path, soon: Judged) -> None:
    check(path, soon)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", each(LATER))
def test_so_does_every_other(path: Path, later: Judged) -> None:
    check(path, later)
