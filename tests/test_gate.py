"""The gate: what lies behind it is unknown until it opens, and then it is what it was."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.arena import GUARD
from harness.gate import KEY_BYTES, Gate, MappedGate, combine, tensor_of

CPU = torch.device("cpu")
keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.close()


@pytest.fixture
def theirs(gate: Gate) -> Iterator[MappedGate]:
    mapped = MappedGate(os.dup(gate.fd), CPU, waits=False)
    yield mapped
    mapped.close()


@given(key=keys, blocks=st.integers(0, 5), seed=st.integers(0, 100))
def test_a_cipher_deciphered_is_what_it_was(key: bytes, blocks: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = (blocks * KEY_BYTES,)
    plain = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    flat = plain.clone()
    combine(flat, tensor_of(key, CPU))
    combine(flat, tensor_of(key, CPU))
    assert torch.equal(flat, plain)


def test_whole_blocks_fit_between_the_tensors_of_an_arena() -> None:
    assert GUARD % KEY_BYTES == 0


def test_every_call_has_a_key_and_a_number_of_its_own(gate: Gate) -> None:
    shut = [gate.shut() for _ in range(50)]
    assert len({number for number, _ in shut}) == len({key for _, key in shut}) == 50


def test_a_worker_deciphers_with_the_key_once_the_gate_is_open(
    gate: Gate, theirs: MappedGate
) -> None:
    plain = torch.arange(4 * KEY_BYTES, dtype=torch.int32).view(torch.uint8)
    number, key = gate.shut()
    flat = plain.clone()
    combine(flat, tensor_of(key, CPU))
    gate.open(key)
    theirs.queue_wait(number)
    theirs.decipher(flat)
    assert torch.equal(flat, plain)


def test_before_the_gate_is_open_the_page_does_not_hold_the_key(
    gate: Gate, theirs: MappedGate
) -> None:
    plain = torch.zeros(KEY_BYTES, dtype=torch.uint8)
    for _ in range(20):  # a key of an earlier call must not serve either
        number, key = gate.shut()
        flat = plain.clone()
        combine(flat, tensor_of(key, CPU))
        theirs.queue_wait(number)
        theirs.decipher(flat)
        assert (flat != plain).float().mean() > 0.5
        assert key not in os.pread(gate.fd, 4096, 0)
        gate.open(key)


def test_the_oracle_waits_for_the_worker_and_not_for_ever(gate: Gate, theirs: MappedGate) -> None:
    number, _ = gate.shut()
    begun = time.perf_counter()
    assert not gate.wait_until_issued(0.1)
    assert time.perf_counter() - begun >= 0.1
    threading.Timer(0.1, theirs.say_issued, (number,)).start()
    assert gate.wait_until_issued(5)
    assert not gate.wait_until_ready(0.01), "each word is of its own"
    theirs.say_ready(number)
    assert gate.wait_until_ready(0.01)
    assert not gate.wait_until_done(0.01), "queued is not done"
    theirs.say_done(number)
    assert gate.wait_until_done(0.01)


def test_nobody_waits_for_a_worker_that_has_answered_otherwise(gate: Gate) -> None:
    gate.shut()
    begun = time.perf_counter()
    assert not gate.wait_until_ready(60, lambda: True)
    assert time.perf_counter() - begun < 1


def test_what_was_said_of_an_earlier_call_says_nothing_of_the_next(
    gate: Gate, theirs: MappedGate
) -> None:
    number, _ = gate.shut()
    theirs.say_issued(number)
    theirs.say_done(number)
    gate.shut()
    assert not gate.wait_until_issued(0.01)
    assert not gate.wait_until_done(0.01)
    theirs.say_done(number)
    assert not gate.wait_until_done(0.01)
