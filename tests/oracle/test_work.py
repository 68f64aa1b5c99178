"""Whose kernels ran, and what the policy makes of it. The names are those that CUDA builds have."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from harness.launches import LaunchTable
from harness.oracle import work
from harness.records import Kernel, Origin, WorkPolicy

OWN = "/tmp/kernel-harness-x/"
TORCH = "/somewhere/site-packages/torch/lib/libtorch_cuda.so"
ELEMENTWISE = "_ZN2at6native29vectorized_elementwise_kernelILi4E"
FILL = f"{ELEMENTWISE}NS0_11FillFunctorIfEESt5arrayIPcLm1EEEEviT0_T1_"
COPY = (
    "_ZN2at6native18elementwise_kernelILi128ELi2EZNS0_22gpu_kernel_impl_nocastIZZZNS0_23"
    "direct_copy_kernel_cudaERNS_18TensorIteratorBaseEENKUlvE1_clEvENKUlvE5_clEvEUlfE_EEvS4_"
)
SUM = (
    "_ZN2at6native13reduce_kernelILi512ELi1ENS0_8ReduceOpIfNS0_14func_wrapper_tIfZNS0_11sum_functorI"
    "fffEclERNS_14TensorIteratorEEUlffE_EEjfLi4ELi4EEEEEvT1_"
)
ADD = f"{ELEMENTWISE}NS0_22CUDAFunctorOnSelf_addIfEESt5arrayIPcLm2EEEEviT0_T1_"
MASKED_FILL = f"{ELEMENTWISE}ZZZNS0_18masked_fill_kernelERNS_14TensorIteratorERKN3c106ScalarE"
BITWISE_AND = (
    f"{ELEMENTWISE}NS0_13BinaryFunctorZNS0_23bitwise_and_kernel_cudaERNS_14TensorIteratorE"
)
ALL = (
    "_ZN2at6native13reduce_kernelILi512ELi1EZNS0_15and_kernel_cudaERNS_14TensorIteratorEEUlbbE_EE"
    "vT1_"
)
CLAMP = f"{ELEMENTWISE}ZZZNS0_21clamp_min_kernel_cudaERNS_14TensorIteratorE"
GEMM = "_ZN7cutlass7Kernel2I41cutlass_80_simt_sgemm_64x64_8x5_nt_align1EEvNT_6ParamsE"


@pytest.fixture
def table() -> Iterator[LaunchTable]:
    made = LaunchTable(OWN)
    yield made
    made.close()


def write(table: LaunchTable, *rows: tuple[str, str, int, int]) -> None:
    """What the library in front of the driver writes: origin, kernel, launches, nanoseconds."""
    table._page[4:8] = struct.pack("<I", len(rows))
    for at, (origin, kernel, count, spent) in enumerate(rows, 1):
        row = struct.pack("<176s304sQQQQ", origin.encode(), kernel.encode(), count, 0, spent, 0)
        table._page[512 * at : 512 * (at + 1)] = row


def ran(origin: Origin, name: str, milliseconds: float = 1.0) -> Kernel:
    return Kernel(name=name, origin=origin, launches=1, milliseconds=milliseconds)


@pytest.mark.parametrize(
    ("origin", "kernel", "expected"),
    [
        (f"{OWN}tmp1/relu.so", "_Z4reluPf", Origin.OWN),
        (f"loaded by {OWN}.triton/cache/x/cuda_utils.so", "add_kernel", Origin.OWN),
        (
            f"loaded by {OWN}.triton/cache/x/cuda_utils.so",
            "triton_poi_fused_relu_0",
            Origin.PYTORCH,
        ),
        (TORCH, FILL, Origin.PYTORCH),
        ("/x/nvidia/cu13/lib/libcublasLt.so.13", GEMM, Origin.LIBRARY),
        ("/x/nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9", "k", Origin.LIBRARY),
        ("loaded by /x/libcudnn_engines_runtime_compiled.so.9", "k", Origin.LIBRARY),
        ("loaded by /x/torch/lib/libtorch_cuda.so", "jitted", Origin.PYTORCH),
        ("/opt/vendor/libfast.so", "k", Origin.UNKNOWN),
        ("?", "?", Origin.UNKNOWN),
        ("", "", Origin.UNKNOWN),
    ],
)
def test_a_kernel_comes_from_where_its_code_lies(
    table: LaunchTable, origin: str, kernel: str, expected: Origin
) -> None:
    write(table, (origin, kernel, 3, 2_000_000))
    (found,) = work.kernels(table)
    assert (found.origin, found.launches, found.milliseconds) == (expected, 3, 2.0)


def test_only_what_came_since_is_listed_and_the_longest_comes_first(table: LaunchTable) -> None:
    write(table, (f"{OWN}a.so", "one", 2, 10), (f"{OWN}a.so", "two", 5, 20))
    before = table.rows()
    assert table.launched == sum(row.count for row in before) == 7
    write(table, *[(f"{OWN}a.so", n, c, t) for n, c, t in (("one", 2, 10), ("two", 6, 90))])
    assert [(k.name, k.launches) for k in work.kernels(table, before)] == [("two", 1)]
    assert [k.name for k in work.kernels(table)] == ["two", "one"]


def test_text_that_a_candidate_wrote_there_is_harmless(table: LaunchTable) -> None:
    write(table, (f"{OWN}a.so", "\x1b[2Jpassed\n", 1, 0))
    (found,) = work.kernels(table)
    assert found.name.isprintable()


def test_launches_that_found_no_row_are_of_unknown_origin(table: LaunchTable) -> None:
    write(table, (f"{OWN}a.so", "one", 2, 10))
    table._page[8:16] = struct.pack("<Q", 3)
    found = work.kernels(table)
    assert [(k.origin, k.launches) for k in found] == [(Origin.OWN, 2), (Origin.UNKNOWN, 3)]
    assert work.findings(found, WorkPolicy.LENIENT, "It")


@pytest.mark.parametrize("policy", list(WorkPolicy))
@pytest.mark.parametrize("name", [FILL, COPY, ALL])
def test_moving_memory_is_allowed(policy: WorkPolicy, name: str) -> None:
    kernels = [ran(Origin.OWN, "k"), ran(Origin.PYTORCH, name, 50.0)]
    assert work.findings(kernels, policy, "It") == []


@pytest.mark.parametrize("name", [SUM, ADD])
def test_a_little_is_tolerated_unless_the_policy_is_strict(name: str) -> None:
    kernels = [ran(Origin.OWN, "k", 9.0), ran(Origin.PYTORCH, name, 1.0)]
    assert work.findings(kernels, WorkPolicy.LENIENT, "It") == []
    (found,) = work.findings(kernels, WorkPolicy.STRICT, "It")
    assert name in found.message


def test_a_little_that_takes_most_of_the_time_is_not_little() -> None:
    kernels = [ran(Origin.OWN, "k", 1.0), ran(Origin.PYTORCH, SUM, 9.0)]
    assert work.findings(kernels, WorkPolicy.LENIENT, "It")


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        (Origin.PYTORCH, CLAMP),
        (Origin.PYTORCH, MASKED_FILL),
        (Origin.PYTORCH, BITWISE_AND),
        (Origin.LIBRARY, GEMM),
        (Origin.UNKNOWN, "?"),
    ],
)
@pytest.mark.parametrize("policy", list(WorkPolicy))
def test_what_others_compute_is_held_against_it(
    origin: Origin, name: str, policy: WorkPolicy
) -> None:
    (found,) = work.findings([ran(Origin.OWN, "k", 99.0), ran(origin, name)], policy, "It")
    assert found.rule == "R04"
    assert name in found.message
