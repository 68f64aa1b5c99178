"""Runs survive whatever ends their writer; baselines are found on like devices only."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import children
import pytest
from builders import clocked, device, evaluation, fingerprints, speedup
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import RunError
from harness.records import Device, DeviceKind, Evaluation, Verdict
from harness.store import Baseline, BaselineStore, Fault, Run, read_evaluations

WRITER = """
import sys
from pathlib import Path
from harness.records import Evaluation
from harness.store import Run
one = Evaluation.model_validate_json(sys.argv[2])
run = Run(Path(sys.argv[1]))
print("open", flush=True)
for number in range(len(run.evaluations), 10**9):
    run.add(one.model_copy(update={"generation": str(number)}))
    print(number, flush=True)
"""


def numbered(number: int, **more: Any) -> Evaluation:
    verdict = list(Verdict)[number % len(Verdict)]
    return evaluation(verdict, generation=str(number), **more)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Run]:
    run = Run(folder)
    try:
        yield run
    finally:
        run.close()


def lines(folder: Path) -> Path:
    return folder / "evaluations.jsonl"


# ---- runs --------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=4))
@settings(max_examples=20)
def test_what_was_added_is_there_again_in_order(batches: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written: list[Evaluation] = []
        for size in batches:
            with opened(Path(folder)) as run:
                assert run.evaluations == written
                for _ in range(size):
                    written.append(numbered(len(written)))
                    run.add(written[-1])
                assert run.evaluations == written
                assert read_evaluations(lines(Path(folder))) == written


@given(st.data())
@settings(max_examples=40)
def test_a_last_line_that_was_cut_anywhere_is_dropped_and_the_run_goes_on(
    data: st.DataObject,
) -> None:
    whole = [numbered(i) for i in range(3)]
    stream = [e.model_dump_json().encode() + b"\n" for e in whole]
    cut = data.draw(st.integers(0, len(b"".join(stream))))
    finished = sum(len(b"".join(stream[: i + 1])) <= cut for i in range(3))
    with tempfile.TemporaryDirectory() as folder:
        lines(Path(folder)).write_bytes(b"".join(stream)[:cut])
        with opened(Path(folder)) as run:
            assert run.evaluations == whole[:finished]
            run.add(numbered(9))
        assert read_evaluations(lines(Path(folder))) == [*whole[:finished], numbered(9)]


def test_a_writer_that_is_killed_loses_nothing_that_it_had_reported(tmp_path: Path) -> None:
    held = 0
    for wanted in (1, 4, 9):
        with children.start(WRITER, tmp_path, evaluation().model_dump_json()) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            reported = [int(writer.stdout.readline()) for _ in range(wanted)]
            with pytest.raises(RunError, match="another process"):
                Run(tmp_path)
            writer.kill()
        with opened(tmp_path) as run:
            found = [int(e.generation) for e in run.evaluations]
            assert found == list(range(len(found)))
            assert found[held : held + wanted] == reported
            held = len(found)


def test_a_second_writer_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(RunError, match="another process"):
        Run(tmp_path)
    with opened(tmp_path) as run:
        assert run.evaluations == []


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("line", [b"{}", b"", b"null", b'{"verdict": "passed"}', b"\xff", b"[[["])
def test_a_foreign_line_is_refused_with_its_number_and_nothing_is_lost(
    line: bytes, at: int, tmp_path: Path
) -> None:
    rows = [numbered(i).model_dump_json().encode() for i in range(2)]
    rows.insert(at, line)
    text = b"".join(row + b"\n" for row in rows)
    lines(tmp_path).write_bytes(text)
    with pytest.raises(RunError, match=f"line {at + 1}:") as refused:
        Run(tmp_path)
    assert lines(tmp_path).read_bytes() == text
    del rows[at]
    lines(tmp_path).write_bytes(b"".join(row + b"\n" for row in rows))
    with opened(tmp_path) as run:
        assert len(run.evaluations) == 2, f"the run is free again after: {refused.value}"


def test_a_record_of_another_version_is_a_foreign_line(tmp_path: Path) -> None:
    text = numbered(0).model_dump_json().replace('"schema_version":1', '"schema_version":2')
    lines(tmp_path).write_text(text + "\n")
    with pytest.raises(RunError, match="line 1"):
        Run(tmp_path)


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/deeper"])
def test_a_run_that_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        Run(tmp_path / name)


def test_done_is_told_by_name_problem_and_text(tmp_path: Path) -> None:
    one = evaluation(fingerprints=fingerprints(generation="a" * 64))
    for _ in range(2):  # when it is added, and when the run is resumed
        with opened(tmp_path) as run:
            if not run.evaluations:
                assert not run.done(one.generation, one.problem, "a" * 64)
                run.add(one)
            assert run.done(one.generation, one.problem, "a" * 64)
            assert not run.done(one.generation, one.problem, "b" * 64)
            assert not run.done(one.generation, "softmax", "a" * 64)
            assert not run.done("other.md", one.problem, "a" * 64)


def test_a_fault_of_ours_leaves_the_generation_open(tmp_path: Path) -> None:
    faults = [Fault(generation=str(i), problem="relu", text="It broke.\n") for i in range(2)]
    with opened(tmp_path) as run:
        for fault in faults:
            run.add_fault(fault)
        assert not run.done("0", "relu", "g" * 64)
    rows = (tmp_path / "faults.jsonl").read_text().splitlines()
    assert [Fault.model_validate_json(row) for row in rows] == faults
    with opened(tmp_path) as run:
        assert run.evaluations == []


# ---- baselines ---------------------------------------------------------------------------------

HERE = device(DeviceKind.CUDA, driver="580", cuda="13.0")


def baseline(where: Device = HERE, problem: str = "p" * 64, ratio: float = 2.0) -> Baseline:
    return Baseline(
        problem="relu",
        problem_sha256=problem,
        device=where,
        harness_version="0.1.0",
        measured_at="2020-01-01T00:00:00Z",
        speedups={"solution": (speedup(ratio),)},
        failures={"compiled": "It does not compile."},
    )


def test_a_baseline_is_found_again_and_the_newest_counts(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    assert store.find("p" * 64, HERE) is None
    first = store.save(baseline(ratio=2.0))
    assert store.save(baseline(ratio=3.0)) == first
    assert store.find("p" * 64, HERE) == baseline(ratio=3.0)
    assert list(first.parent.iterdir()) == [first]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Another"},
        {"driver": "581"},
        {"torch": "2.14.0"},
        {"cuda": "13.1"},
        {"kind": DeviceKind.CPU},
    ],
)
def test_a_baseline_of_an_unlike_device_is_not_found(
    change: dict[str, Any], tmp_path: Path
) -> None:
    store = BaselineStore(tmp_path)
    store.save(baseline())
    assert store.find("p" * 64, HERE.model_copy(update=change)) is None


def test_a_twin_of_the_device_shares_its_baselines(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    store.save(baseline())
    assert store.find("p" * 64, HERE.model_copy(update={"index": 7})) is not None


def test_a_baseline_of_another_text_of_the_problem_is_not_found(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    store.save(baseline())
    assert store.find("q" * 64, HERE) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b"\xff\xfe", b"null"])
def test_a_damaged_baseline_counts_as_none_and_can_be_replaced(
    damage: bytes, tmp_path: Path
) -> None:
    store = BaselineStore(tmp_path)
    store.save(baseline()).write_bytes(damage)
    assert store.find("p" * 64, HERE) is None
    store.save(baseline())
    assert store.find("p" * 64, HERE) == baseline()


def test_a_timing_of_a_run_survives_the_disk(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.add(clocked(speedup(2.5)))
    with opened(tmp_path) as run:
        assert run.evaluations == [clocked(speedup(2.5))]
