"""CUDA works inside a sandbox that was given the device, and only there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.sandbox import Level

from .conftest import FILE_LEVELS, LEVELS, Run

needs_gpu = pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no NVIDIA device")

DRIVER_API = """
import ctypes, json, sys
import torch
class Handle(ctypes.Structure):
    _fields_ = [('bytes', ctypes.c_ubyte * 64)]
torch.zeros(1, device='cuda')
cuda = ctypes.CDLL('libcuda.so.1')
pointer = ctypes.c_uint64()
word = ctypes.c_uint32()
def check(code):
    assert code == 0, code
"""

# Owns device memory, as the oracle does, and tells what is in it once it is asked.
OWNER = (
    DRIVER_API
    + """
handle = Handle()
check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(4096)))
check(cuda.cuIpcGetMemHandle(ctypes.byref(handle), pointer))
print(bytes(handle).hex(), flush=True)
for _ in sys.stdin:
    check(cuda.cuMemcpyDtoH_v2(ctypes.byref(word), pointer, ctypes.c_size_t(4)))
    print(word.value, flush=True)
"""
)

BORROWER = (
    DRIVER_API
    + """
handle = Handle.from_buffer_copy(bytes.fromhex(parameters))
check(cuda.cuIpcOpenMemHandle_v2(ctypes.byref(pointer), handle, ctypes.c_uint(1)))
check(cuda.cuMemsetD32_v2(pointer, ctypes.c_uint(42), ctypes.c_size_t(9)))
check(cuda.cuCtxSynchronize())
print(json.dumps(42))
"""
)


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=pipe, stdout=pipe, text=True) as own:
        yield own
        own.kill()


@needs_gpu
@pytest.mark.parametrize("level", LEVELS)
def test_cuda_computes_inside(run: Run, level: Level) -> None:
    source = """
import json
ones = torch.ones(512, 512, device='cuda')
print(json.dumps((ones @ ones).sum().item()))
"""
    assert run(source, level, before="import torch", gpu=True).said == 512.0**3


@needs_gpu
@pytest.mark.parametrize("level", LEVELS)
def test_device_memory_of_another_process_can_be_lent(
    run: Run, owner: subprocess.Popen[str], level: Level
) -> None:
    assert owner.stdin is not None
    assert owner.stdout is not None
    handle = owner.stdout.readline().strip()
    written = run(BORROWER, level, parameters=handle, gpu=True).said
    owner.stdin.write("\n")
    owner.stdin.flush()
    assert int(owner.stdout.readline()) == written


@needs_gpu
@pytest.mark.parametrize("level", FILE_LEVELS)
def test_without_leave_there_is_no_device(run: Run, level: Level) -> None:
    source = "import json, torch; print(json.dumps(torch.cuda.is_available()))"
    assert run(source, level).said is False


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA compiler")
@pytest.mark.parametrize("level", FILE_LEVELS)
def test_a_cuda_compiler_works_inside(run: Run, workdir: Path, level: Level) -> None:
    source = """
import pathlib, subprocess
pathlib.Path('a.cu').write_text('__global__ void set(int* p) { *p = 1; }')
subprocess.run(['nvcc', '-ptx', 'a.cu', '-o', 'a.ptx'], check=True)
print('null')
"""
    assert run(source, level).said is None
    assert "set" in (workdir / "a.ptx").read_text()
