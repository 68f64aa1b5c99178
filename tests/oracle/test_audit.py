"""What PyTorch's operators on the way say about rule R04, and that they are seen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.oracle.audit import ALLOWED, TOLERATED, findings
from harness.records import Severity
from harness.worker.census import TO_THE_HOST, Census, witnessed

MOST = 10_000


@given(name=st.sampled_from(sorted(ALLOWED)), size=st.integers(0, 100 * MOST))
def test_moving_data_is_no_finding(name: str, size: int) -> None:
    assert not findings({"forward": {f"aten::{name}.out": size}}, MOST)


@given(name=st.sampled_from(sorted(TOLERATED)), size=st.integers(0, 100 * MOST))
def test_little_arithmetic_is_a_note_until_it_makes_more_than_goes_in(name: str, size: int) -> None:
    (found,) = findings({"backward": {f"aten::{name}": size}}, MOST)
    assert found.severity is (Severity.NOTE if size <= MOST else Severity.ERROR)


def test_many_small_sums_are_one_large_one() -> None:
    half = MOST // 2 + 1
    (found,) = findings({"forward": {"aten::mul.Tensor": half, "aten::add_.Tensor": half}}, MOST)
    assert found.severity is Severity.ERROR


def test_what_the_reference_computes_by_alone_is_the_work() -> None:
    seen = {"forward": {"aten::sum.dim_IntList": 3}}
    (found,) = findings(seen, MOST, reference=frozenset({"aten::sum.default", "aten::view"}))
    assert found.severity is Severity.ERROR
    (found,) = findings(seen, MOST, reference=frozenset({"aten::sum.default", "aten::mm"}))
    assert found.severity is Severity.NOTE


@pytest.mark.parametrize("name", ["aten::mm", "aten::convolution_backward", "aten::_softmax"])
def test_an_operator_that_computes_is_an_error(name: str) -> None:
    (found,) = findings({"forward": {name: 0}}, MOST)
    assert found.severity is Severity.ERROR
    assert name.removeprefix("aten::") in found.message


def test_only_what_is_larger_than_flags_and_sizes_may_not_go_to_the_host() -> None:
    assert not findings({"forward": {TO_THE_HOST: 64}}, MOST)
    (found,) = findings({"forward": {TO_THE_HOST: 5000}}, MOST)
    assert "to the host" in found.message


def test_a_census_adds_up_what_an_operator_made() -> None:
    with Census() as census:
        torch.ones(3) * torch.ones(3)
        torch.ones(7, 1) * torch.ones(3)
    assert census.sizes["aten::mul.Tensor"] == 24


def test_the_profiler_sees_operators_within_operators() -> None:
    assert "aten::mm" in witnessed(
        lambda: torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2))
    )


def test_the_profiler_sees_what_keeps_out_of_the_modes_way() -> None:
    def run() -> None:
        keys = torch._C.DispatchKeySet(torch._C.DispatchKey.Python)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            torch.ones(2, 2) @ torch.ones(2, 2)

    with Census() as census:
        run()
    assert "aten::mm" not in census.sizes
    assert "aten::mm" in witnessed(run)
