"""Devices are told without touching one; what cannot be used is refused with the reason."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.devices import (
    Gpu,
    LeaseTaken,
    architectures_of,
    choose,
    cpu,
    cuda,
    emulated,
    gpus,
    lease,
    left_visible,
    no_emulation,
    torch_cuda,
    torch_version,
)
from harness.errors import DeviceFault, UsageError
from harness.records import DeviceKind
from harness.vitals import Vitals

without_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")
with_gpu = pytest.mark.skipif(not gpus() or not torch_cuda(), reason="there is no usable GPU")

GPU = Gpu(1, "A GPU", "GPU-0123", "580.00", (9, 0), 80 << 30)
HOLD = """
import sys, time
from pathlib import Path
from harness.devices import Gpu, lease
with lease(Gpu(1, "A GPU", sys.argv[2], "580.00", (9, 0), 1), Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


# ---- choosing ----------------------------------------------------------------------------------


def test_the_cpu_is_always_there() -> None:
    assert choose("cpu") == (cpu(), None)
    assert cpu().kind is DeviceKind.CPU
    assert cpu().name
    assert cpu().architecture


@without_gpu
def test_without_a_gpu_auto_is_the_emulated_device_where_there_can_be_one_else_the_cpu() -> None:
    device, gpu = choose("auto")
    assert gpu is None
    if (why := no_emulation()) is None:
        assert device == choose("emulated")[0] == emulated()
        assert (device.kind, device.architecture) == (DeviceKind.EMULATED, "sm_90")
        assert "emulated" in device.name
    else:
        assert device == cpu()
        with pytest.raises(UsageError, match="no emulated device here") as refused:
            choose("emulated")
        assert why in str(refused.value)


@without_gpu
@pytest.mark.parametrize("wanted", ["cuda", "cuda:0", "cuda:7"])
def test_without_a_gpu_cuda_is_refused_with_the_reason(wanted: str) -> None:
    with pytest.raises(UsageError, match=f"{wanted} cannot be used: .*(driver|GPU)"):
        choose(wanted)


@with_gpu
def test_with_a_gpu_auto_is_the_first_one() -> None:
    found, gpu = choose("auto")
    assert gpu == gpus()[0]
    assert (found.kind, found.architecture) == (DeviceKind.CUDA, gpus()[0].architecture)
    assert choose("cuda:0")[1] == gpu
    with pytest.raises(UsageError, match="usable"):
        choose(f"cuda:{len(gpus())}")


@pytest.mark.parametrize(
    "wanted", ["", "gpu", "CUDA", "cuda:x", "cuda:-1", "cuda:²", "cuda:1.0", "emulated:0"]
)
def test_what_is_no_device_is_refused_with_what_is(wanted: str) -> None:
    with pytest.raises(UsageError, match="auto, emulated, cpu, cuda or cuda:N"):
        choose(wanted)


@given(st.text(max_size=8))
def test_whatever_is_wanted_the_answer_is_a_device_or_a_reason(wanted: str) -> None:
    for name in (wanted, f"cuda:{wanted}"):
        try:
            assert choose(name)[0].kind in DeviceKind
        except UsageError as error:
            assert name in str(error) or repr(name) in str(error)


def test_a_gpu_is_recorded_as_the_driver_describes_it() -> None:
    found = cuda(GPU)
    assert (found.name, found.index, found.driver) == ("A GPU", 1, "580.00")
    assert found.architecture == GPU.architecture == "sm_90"


# ---- torch, asked without importing it ---------------------------------------------------------


def test_torch_s_versions_are_told_without_importing_it() -> None:
    program = """
import sys
from harness.devices import torch_cuda, torch_version
told = torch_version(), torch_cuda()
assert "torch" not in sys.modules
import torch
assert told == (torch.__version__, torch.version.cuda or ""), told
print("as torch says")
"""
    assert children.run(program) == "as torch says\n"
    assert cpu().torch == torch_version()


# ---- leases ------------------------------------------------------------------------------------


def test_a_leased_gpu_is_held_against_other_processes_until_its_holder_is_gone(
    tmp_path: Path,
) -> None:
    with children.start(HOLD, tmp_path, GPU.uuid) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=r"holds A GPU \(1\)"), lease(GPU, tmp_path, seconds=0):
            pass
        other = Gpu(2, "A GPU", "GPU-4567", "580.00", (9, 0), 80 << 30)
        with lease(other, tmp_path, seconds=0):
            pass
        holder.kill()
    with lease(GPU, tmp_path, seconds=5):
        pass


def test_a_lease_ends_with_what_it_was_taken_for(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease(GPU, tmp_path, seconds=0):
        raise ZeroDivisionError
    with lease(GPU, tmp_path, seconds=0):
        pass


def test_the_cpu_is_not_held(tmp_path: Path) -> None:
    with lease(None, tmp_path / "unused"), lease(None, tmp_path / "unused"):
        pass
    assert not (tmp_path / "unused").exists()


def test_a_lease_taken_in_one_thread_can_be_given_back_in_another(tmp_path: Path) -> None:
    held = contextlib.ExitStack()
    with ThreadPoolExecutor(1) as other:
        other.submit(held.enter_context, lease(GPU, tmp_path, seconds=0)).result()
    with pytest.raises(LeaseTaken), lease(GPU, tmp_path, seconds=0):
        pass
    held.close()
    with lease(GPU, tmp_path, seconds=0):
        pass


# ---- several -----------------------------------------------------------------------------------


def test_what_is_built_suits_every_gpu_that_is_there() -> None:
    older = Gpu(0, "An older GPU", "GPU-0", "580.00", (8, 0), 40 << 30)
    assert architectures_of([GPU, older, GPU]) == "8.0;9.0"
    assert architectures_of([GPU]) == "9.0"
    assert architectures_of([None]) == architectures_of([]) == "9.0"


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("GPU-b", [1]),
        ("GPU-c,GPU-a", [2, 0]),
        ("1,7,2", [1]),
        ("1,1", [1]),
        ("GPU-", []),
        ("MIG-GPU-a", []),
        ("-1", []),
    ],
)
def test_gpus_that_the_caller_has_hidden_are_left_alone(
    wanted: str | None, left: list[int]
) -> None:
    found = [Gpu(n, "A GPU", f"GPU-{'abc'[n]}", "580.00", (9, 0), 1) for n in range(3)]
    assert [g.index for g in left_visible(found, wanted)] == left


def test_a_gpu_that_its_driver_cannot_reach_is_ill_and_a_processor_never_is() -> None:
    Vitals(None).begin()
    Vitals(None).check()
    with pytest.raises(DeviceFault, match="driver"):
        Vitals(GPU).check()
