"""Hostile texts cost themselves at most: the next text is read as if they had never been."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import children
import psutil
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from harness.errors import ReaderFault
from harness.extract import extract
from harness.generation import Generation, Prepared
from harness.problems import find
from harness.readers import Exceeded, Readers
from harness.reading import Reading
from harness.records import Severity, Verdict
from harness.screening import screen, signature_of
from harness.settings import Settings

RELU = find("relu")
RIGHT = (children.ROOT / "solutions" / "relu.py").read_text()
SECONDS = 1.0
TEXTS = [
    path
    for folder in ("solutions", "examples/generations/cuda", "tests/gallery/flawed")
    for path in sorted((children.ROOT / folder).iterdir())
    if path.suffix in (".py", ".md", ".txt")
]


def slow() -> str:
    """A chain of classes, which took a minute to screen."""
    chain = "".join(f"class A{i}(A{i - 1}): pass\n" for i in range(1, 2000))
    head = "import torch.nn as nn\nclass A0(nn.Module): pass\n"
    return f"{head}{chain}class ModelNew(A1999):\n    def forward(self, x): return x\n"


SLOW = slow()


@contextlib.contextmanager
def within(**limits: float) -> Iterator[Reading]:
    """Reading with limits of its own."""
    readers = Readers()
    try:
        yield Reading(Settings(**limits), readers)
    finally:
        readers.close()


@pytest.fixture(scope="module")
def reading() -> Iterator[Reading]:
    readers = Readers()
    yield Reading(Settings(text_seconds=SECONDS), readers)
    readers.close()
    assert not processes()


def processes() -> list[psutil.Process]:
    """The processes that read for this one."""
    return [p for p in psutil.Process().children() if "harness.reader" in p.cmdline()]


def read(reading: Reading, text: str) -> tuple[Verdict | None, Prepared]:
    """Both stages, as a grader runs them."""
    prepared = Prepared(Generation("answer", text), RELU, "")
    ended = reading.take_candidate(prepared)
    return ended or reading.look_over(prepared, on_cpu=False, waived=False), prepared


def errors(prepared: Prepared) -> list[str]:
    return [f.message for f in prepared.findings if f.severity is Severity.ERROR]


def wait_for_a_busy_one() -> psutil.Process:
    """The process that has used some processor time on the slow text."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in processes():
            if process.cpu_percent(0.2) > 20 and process.cpu_times().user > 0.6:
                return process
    raise AssertionError("no process reads")


def right(reading: Reading) -> None:
    """An honest text is read as ever."""
    assert read(reading, RIGHT)[0] is None


def test_a_text_that_takes_too_long_is_rejected_and_the_next_is_read_as_usual(
    reading: Reading,
) -> None:
    begun = time.monotonic()
    verdict, prepared = read(reading, SLOW)
    assert verdict is Verdict.REJECTED
    assert errors(prepared) == ["Screening the code takes more than 1 s of processor time."]
    assert time.monotonic() - begun < 30 * SECONDS
    right(reading)


def test_a_text_is_read_up_to_a_mebibyte(reading: Reading) -> None:
    most = Settings().text_bytes
    fits = RIGHT + "#" * (most - len(RIGHT.encode()))
    assert read(reading, fits)[0] is None
    verdict, prepared = read(reading, fits + "#")
    assert verdict is Verdict.NO_CODE
    assert errors(prepared) == [f"The text has {most + 1} bytes; {most} are read at most."]
    right(reading)


def test_a_text_that_takes_too_much_memory_is_refused_and_the_next_is_read_as_usual() -> None:
    with within(text_memory_bytes=400 << 20) as small:
        verdict, prepared = read(small, "import torch\nx = [" + "[0]," * 200_000 + "]\n")
        assert verdict in (Verdict.NO_CODE, Verdict.REJECTED, Verdict.SYNTAX_ERROR)
        assert "memory" in errors(prepared)[0].lower()
        right(small)


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_text_that_crashes_its_parser_is_rejected_and_the_next_is_read_as_usual(
    by: signal.Signals,
) -> None:
    with within(text_seconds=60) as patient, ThreadPoolExecutor(1) as pool:
        judged = pool.submit(read, patient, SLOW)
        wait_for_a_busy_one().send_signal(by)
        verdict, prepared = judged.result(30)
        assert verdict is Verdict.REJECTED
        assert errors(prepared) == [f"Screening the code ends the parser ({by.name})."]
        right(patient)


def test_a_process_that_somebody_else_ends_is_a_fault_of_ours() -> None:
    with within(text_seconds=60) as patient, ThreadPoolExecutor(1) as pool:
        judged = pool.submit(read, patient, SLOW)
        wait_for_a_busy_one().kill()
        with pytest.raises(ReaderFault, match="SIGKILL"):
            judged.result(30)
        right(patient)


def test_what_the_asking_process_holds_wears_no_reader_out() -> None:
    before = processes()
    with within(text_memory_bytes=1 << 30) as small:
        ballast = b"x" * (400 << 20)
        right(small)
        (first,) = [p for p in processes() if p not in before]
        right(small)
        assert [p for p in processes() if p not in before] == [first]
        del ballast


def test_a_process_that_ended_between_two_texts_is_a_fault_of_ours(reading: Reading) -> None:
    right(reading)
    (process,) = processes()
    process.terminate()
    process.wait(10)
    with pytest.raises(ReaderFault):
        right(reading)
    right(reading)


def test_other_threads_read_while_one_text_takes_long() -> None:
    before = processes()
    with ThreadPoolExecutor(1) as pool:
        with within(text_seconds=60) as patient:
            judged = pool.submit(read, patient, SLOW)
            wait_for_a_busy_one()
            for _ in range(3):
                right(patient)
            assert not judged.done()
        with pytest.raises(ReaderFault):  # nobody waits for what is still being read
            judged.result(10)
    assert processes() == before


def test_looking_through_sources_for_the_emulated_device_has_the_same_limits() -> None:
    spec = {"kind": "inline", "name": "a", "cuda_sources": ["asm(" * 75_000]}
    message = {"op": "gaps", "text": "", "spec": spec}
    readers = Readers()
    try:
        with pytest.raises(Exceeded, match="takes more than 1 s of processor time"):
            readers.ask(message, SECONDS, 1 << 30)
        graph = spec | {"cuda_sources": ["void f() { cudaGraphLaunch(g, s); }"]}
        found = readers.ask(message | {"spec": graph}, 20, 1 << 30)
        assert "CUDA graphs" in found["unsupported"][0]["message"]
        assert found["refused"] == []
    finally:
        readers.close()


def test_one_process_reads_one_text_after_the_other(reading: Reading) -> None:
    right(reading)
    before = [p.pid for p in processes()]
    for _ in range(5):
        right(reading)
    assert [p.pid for p in processes()] == before


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_what_is_found_is_what_the_stages_find_by_themselves(path, reading: Reading) -> None:
    text = path.read_text()
    _, prepared = read(reading, text)
    extraction = extract(text)
    found = list(extraction.findings)
    if extraction.candidate is not None:
        found += screen(extraction.candidate, signature_of(RELU.source)).findings
    assert prepared.candidate == extraction.candidate
    assert prepared.findings == found


@given(st.text(st.characters(), max_size=200))
@limits(max_examples=60, deadline=None)
def test_any_text_whatever_is_read(reading: Reading, text: str) -> None:
    verdict, prepared = read(reading, text)
    assert prepared.candidate == extract(text).candidate
    assert (verdict is Verdict.NO_CODE) == (prepared.candidate is None)
