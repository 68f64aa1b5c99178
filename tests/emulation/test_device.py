"""A cuda:0 on a CPU build of torch behaves as one, and only in the processes that were given it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.build import ExtensionSpec
from harness.emulation.preparation import NATIVE, Prepared, find, key, prepare
from harness.generation import Generation
from harness.grader import Grader
from harness.pool import batch
from harness.problems import ProblemFile
from harness.problems import find as find_problem
from harness.records import Evaluation, Verdict
from harness.settings import Settings
from tests.emulation.conftest import NEEDS_EMULATION

pytestmark = NEEDS_EMULATION

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = ROOT / "solutions"
PROBLEMS = ("relu", "softmax", "matmul", "layer_norm", "conv2d")
FEW = ("conv2d",)
"""Those whose vetted solution is judged every time; ``make test-all`` judges all."""
DEVICE = """
import sys
from pathlib import Path
from harness.emulation import device
device.load(Path(sys.argv[1]))
import torch
from harness.emulation import torch_cuda
torch_cuda.install()
"""


def run(program: str, *args: str | Path) -> str:
    """What a process with the emulated device prints."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_tensors_modules_and_autograd_live_on_it(prepared: Prepared) -> None:
    program = (
        DEVICE
        + """
x = torch.randn(4, 5, requires_grad=True, device="cuda")
assert x.is_cuda and x.device == torch.device("cuda", 0)
model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.ReLU()).cuda()
model(x).sum().backward()
assert x.grad.is_cuda and all(p.grad.is_cuda for p in model.parameters())
conv = torch.nn.Conv2d(2, 3, 3).to("cuda")
image = torch.randn(1, 2, 6, 6)
expected = conv.cpu()(image)
assert torch.allclose(conv.cuda()(image.cuda()).cpu(), expected, atol=1e-6)
assert torch.empty(7, device="cuda").isnan().all(), "fresh memory is poisoned"
print("right")
"""
    )
    assert run(program, prepared.library) == "right\n"


def test_tensors_of_two_devices_do_not_mix(prepared: Prepared) -> None:
    program = (
        DEVICE
        + """
try:
    torch.ones(3, device="cuda") + torch.ones(3)
except RuntimeError as error:
    assert "same device" in str(error), error
    print("refused")
"""
    )
    assert run(program, prepared.library) == "refused\n"


def test_queries_streams_and_events_answer(prepared: Prepared) -> None:
    program = (
        DEVICE
        + """
assert torch.cuda.is_available() and torch.cuda.device_count() == 1
assert torch.cuda.get_device_capability() == (9, 0)
assert torch.cuda.get_device_properties(0).multi_processor_count > 0
side = torch.cuda.Stream()
with torch.cuda.stream(side):
    assert torch.cuda.current_stream() == side != torch.cuda.default_stream()
assert torch.cuda.current_stream() == torch.cuda.default_stream()
start, end = (torch.cuda.Event(enable_timing=True) for _ in "ab")
start.record(); end.record(); torch.cuda.synchronize()
assert start.elapsed_time(end) >= 0
try:
    torch.cuda.CUDAGraph()
except NotImplementedError as error:
    assert str(error).startswith(device.NOT_EMULATED)
    print("right")
"""
    )
    assert run(program, prepared.library) == "right\n"


def test_nobody_else_has_it(prepared: Prepared) -> None:
    assert prepared.library.exists()
    assert not torch.cuda.is_available()
    assert "libkernel_harness_device" not in Path("/proc/self/maps").read_text()


@pytest.mark.exhaustive  # its gradients are held against float64 where it is judged, below
@pytest.mark.timeout(400)
def test_gradcheck_of_the_convolution_passes_in_float64(prepared: Prepared, tmp_path: Path) -> None:
    source = (SOLUTIONS / "conv2d.py").read_text()
    library = tmp_path / "conv2d.so"
    with Grader("emulated") as grader:
        ready = grader.prepare(Generation("conv2d", source), find_problem("conv2d"))
        assert ready.evaluation is None
        shop = grader._shop
        (spec,) = shop.collect(ready)
        assert isinstance(spec, ExtensionSpec)
        fd = shop.builder.store.open(shop.builder.build(spec))
    with open(fd, "rb") as built, library.open("wb") as copy:
        shutil.copyfileobj(built, copy)
    program = (
        DEVICE
        + """
from harness.worker import extension
extension.intercept(lambda spec: extension._import_extension(spec["name"], sys.argv[2]))
module = {}
exec(compile(Path(sys.argv[3]).read_text(), "candidate", "exec"), module)
torch.manual_seed(0)
for geometry in ({}, {"stride": 2, "padding": (1, 2)}, {"dilation": (2, 1), "groups": 2}):
    model = module["ModelNew"](4, 6, (3, 2), bias=True, **geometry).double().cuda()
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64, device="cuda", requires_grad=True)
    names, parameters = zip(*model.named_parameters())
    def call(x, *values):
        return torch.func.functional_call(model, dict(zip(names, values)), (x,))
    values = [p.detach().clone().requires_grad_(True) for p in parameters]
    print(torch.autograd.gradcheck(call, (x, *values)), flush=True)
import os
os._exit(0)  # as a worker ends: torch's threads for a CUDA device are not joined
"""
    )
    assert run(program, prepared.library, library, SOLUTIONS / "conv2d.py") == "True\n" * 3


@pytest.mark.timeout(400)
def test_a_vetted_solution_passes(tmp_path: Path) -> None:
    solutions_pass(FEW, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
def test_so_does_every_other(tmp_path: Path) -> None:
    solutions_pass(tuple(p for p in PROBLEMS if p not in FEW), tmp_path)


def solutions_pass(problems: tuple[str, ...], scratch: Path) -> None:
    """The vetted solutions of these problems pass, judged in one batch."""
    folder = scratch / "solutions"
    folder.mkdir()
    for problem in problems:
        shutil.copy(SOLUTIONS / f"{problem}.py", folder / f"{problem}__solution.py")
    done = batch(folder, scratch / "run", device="emulated")
    assert not done.faults
    assert {evaluation.problem for evaluation in done.evaluations} == set(problems)
    for evaluation in done.evaluations:
        passed(evaluation)


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_vetted_solution_is_right_to_the_last_digits_in_float64(
    problem: str, tmp_path: Path
) -> None:
    wide = tmp_path / f"{problem}_float64.py"
    wide.write_text(find_problem(problem).source + '\nDTYPE = "float64"\nTF32 = "forbidden"\n')
    solution = (SOLUTIONS / f"{problem}.py").read_text()
    with Grader("emulated") as grader:
        passed(grader.grade(Generation(problem, solution), ProblemFile.read(wide)))


def passed(evaluation: Evaluation) -> None:
    """A solution passed, and launched its kernels."""
    assert evaluation.verdict is Verdict.PASSED, [f.message for f in evaluation.findings]
    assert evaluation.launches


# ---- preparation -----------------------------------------------------------------------------


def test_what_was_prepared_is_found_again(prepared: Prepared) -> None:
    root = Settings().prepared_dir
    assert find(root) == prepare(root) == prepared
    assert prepared.key == key()


def test_the_key_names_every_source(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "native"
    shutil.copytree(NATIVE, changed)
    header = changed / "include" / "emulated" / "core.h"
    header.write_text(header.read_text() + "// changed\n")
    monkeypatch.setattr("harness.emulation.preparation.NATIVE", changed)
    key.cache_clear()
    try:
        assert key() != prepared.key
    finally:
        monkeypatch.undo()
        key.cache_clear()
    assert key() == prepared.key


# ---- the headers on their own ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numerics", "runtime"])
def test_the_stand_in_headers_compute_what_cuda_documents(name: str, tmp_path: Path) -> None:
    source = Path(__file__).parent / "native" / f"{name}.cpp"
    binary = tmp_path / name
    flags = ["-std=c++20", "-O2", "-w", "-ffp-contract=off", f"-I{NATIVE / 'include'}"]
    subprocess.run(["c++", *flags, str(source), "-o", str(binary)], check=True)
    done = subprocess.run([str(binary)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
