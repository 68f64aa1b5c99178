"""The sample generations of ``make demo`` get the verdicts that their manifests promise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.devices import no_emulation
from harness.extract import extract
from harness.mapping import MANIFEST, read_manifest, tasks
from harness.pool import Batch, batch
from harness.records import DeviceKind, Evaluation, Gradients, Mode, Severity, Verdict
from tests.judging.conftest import EXAMPLES

FEW = ("relu__right.md", "relu__exits.txt")
"""The C++ samples that are judged every time; ``make demo`` and ``make test-all`` judge all.

What does not compile takes a second build, as torch does it: half a minute.
"""
SELDOM_CUDA = (
    "layer_norm__frozen_weights.txt",
    "matmul__right.md",
    "matmul__whole_tiles_only.md",
    "relu__right.md",
    "softmax__no_maximum.md",
)
"""The CUDA samples that only those judge."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Some C++ samples, judged in one batch on the CPU."""
    folder = tmp_path_factory.mktemp("cpp")
    for name in (*FEW, MANIFEST):
        shutil.copy(EXAMPLES / "cpp" / name, folder)
    return batch(folder, tmp_path_factory.mktemp("run"), device="cpu")


@pytest.mark.timeout(580)
def test_a_cpp_sample_gets_the_verdict_that_its_manifest_promises(judged: Batch) -> None:
    promised_verdicts(judged, FEW)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_every_cpp_sample_gets_the_verdict_that_its_manifest_promises(tmp_path: Path) -> None:
    done = batch(EXAMPLES / "cpp", tmp_path / "run", device="cpu")
    promised_verdicts(done, tuple(read_manifest(EXAMPLES / "cpp")))
    compiler_errors_stand_at_the_candidates_own_lines(done)


def promised_verdicts(judged: Batch, names: tuple[str, ...]) -> None:
    """Each sample has the verdict that the manifest promises, and none is missing."""
    entries = read_manifest(EXAMPLES / "cpp")
    expected = {n: entries[n]["expected"]["cpu"] for n in names}
    found = {e.generation: e.verdict.value for e in judged.evaluations}
    why = {e.generation: [f.message for f in e.findings] for e in judged.evaluations}
    wrong = {
        n: (expected[n], found.get(n), why.get(n)) for n in expected if found.get(n) != expected[n]
    }
    assert not wrong
    assert not judged.faults


def compiler_errors_stand_at_the_candidates_own_lines(judged: Batch) -> None:
    """Of the sample that does not compile."""
    evaluation = by_name(judged, "softmax__does_not_compile.md")
    placed = [f for f in evaluation.findings if f.rule == "build.compiler" and f.place]
    assert placed
    text = (EXAMPLES / "cpp" / evaluation.generation).read_text()
    code = (extract(text).candidate or "").splitlines()
    for finding in placed:
        assert finding.place is not None
        assert code[finding.place.line - 1].strip()


def test_what_passed_has_checked_gradients_and_three_speedups(judged: Batch) -> None:
    passed = [e for e in judged.evaluations if e.passed]
    assert passed
    for evaluation in passed:
        assert evaluation.gradients is Gradients.CHECKED
        assert {s.mode for s in evaluation.speedups} == set(Mode)
        assert all(s.outputs_judged >= 1 for s in evaluation.speedups)
        forward = evaluation.speedup(Mode.FORWARD)
        assert forward is not None
        assert forward.flops and forward.bytes_moved, "the problem states its work"


def test_every_failure_says_where_and_what_to_do(judged: Batch) -> None:
    for evaluation in judged.evaluations:
        errors = [f for f in evaluation.findings if f.severity is Severity.ERROR]
        if not evaluation.passed:
            assert errors
            assert all(f.advice for f in errors), [f.message for f in errors if not f.advice]


def test_the_summary_counts_what_the_records_say(judged: Batch) -> None:
    passed = sum(e.verdict is Verdict.PASSED for e in judged.evaluations)
    assert judged.summary.verdicts[Verdict.PASSED] == passed
    assert judged.summary.generations == len(judged.evaluations)


@pytest.mark.exhaustive  # make demo judges them too
@pytest.mark.skipif(no_emulation() is not None, reason=str(no_emulation()))
def test_a_cuda_sample_gets_its_verdict_on_the_emulated_device(tmp_path: Path) -> None:
    folder = tmp_path / "cuda"
    shutil.copytree(EXAMPLES / "cuda", folder)
    for name in SELDOM_CUDA:
        (folder / name).unlink()
    emulated_verdicts(batch(folder, tmp_path / "run", device="emulated"), len(tasks(folder)))


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.skipif(no_emulation() is not None, reason=str(no_emulation()))
def test_every_cuda_sample_gets_its_verdict_on_the_emulated_device(tmp_path: Path) -> None:
    done = batch(EXAMPLES / "cuda", tmp_path / "run", device="emulated")
    emulated_verdicts(done, len(tasks(EXAMPLES / "cuda")))


def emulated_verdicts(done: Batch, samples: int) -> None:
    """Each sample has the verdict that the manifest promises, and none is missing."""
    assert not done.faults
    assert len(done.evaluations) == samples
    expected = {n: e["expected"] for n, e in read_manifest(EXAMPLES / "cuda").items()}
    for evaluation in done.evaluations:
        wanted = expected[evaluation.generation]
        said = [f.message for f in evaluation.findings]
        assert evaluation.verdict == wanted.get("emulated", wanted["cuda"]), said
        assert evaluation.device.kind is DeviceKind.EMULATED
        assert not evaluation.speedups
        if evaluation.passed:
            assert evaluation.launches
            assert evaluation.gradients is Gradients.CHECKED
    assert [d.kind for d in done.summary.devices] == [DeviceKind.EMULATED]
    assert not done.summary.devices[0].speeds


def by_name(judged: Batch, name: str) -> Evaluation:
    return next(e for e in judged.evaluations if e.generation == name)
