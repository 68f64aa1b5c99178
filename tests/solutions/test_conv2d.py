"""The conv2d solution's tensor-core kernels, against float64 on a GPU.

``kernel-harness grade`` holds the problem's own cases against it, most of which are too small for
the tensor cores; these are not.
"""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from tests.solutions.convolution import Convolution, solution

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
BUDGETS = {True: 3.5e-4, False: 1e-6}
"""Relative L2, with TF32 and without: rounding both operands to 11 bits makes 2.9e-4."""
SERIAL = 5e-6
"""What plain float32 sums may be wrong by: those of the bias and of the general kernel."""


CASES = {
    "five by seven": Convolution(4, 64, 35, 37, 128, (5, 7), padding=(2, 3)),
    "odd sizes": Convolution(3, 40, 50, 71, 96, (5, 7), padding=(1, 0)),
    "dilated": Convolution(2, 32, 40, 45, 64, (5, 9), (1, 1), (2, 4), (2, 3)),
    "three by three": Convolution(4, 128, 28, 28, 128, (3, 3), padding=(1, 1)),
    "small maps": Convolution(64, 256, 14, 14, 256, (3, 3), padding=(1, 1)),
    "one image": Convolution(1, 64, 60, 63, 64, (3, 3), padding=(1, 1)),
    "even kernel": Convolution(4, 96, 40, 41, 112, (2, 2), padding=(0, 1)),
    "long kernel": Convolution(2, 48, 50, 60, 64, (1, 12), padding=(0, 5)),
    "tall kernel": Convolution(2, 48, 50, 60, 64, (11, 1), padding=(5, 0)),
    "padding beyond the kernel": Convolution(4, 48, 30, 30, 80, (3, 3), padding=(6, 7)),
    "few channels": Convolution(8, 17, 60, 60, 33, (3, 3), padding=(1, 1)),
    "pointwise": Convolution(16, 136, 25, 27, 130, (1, 1)),
    "pointwise, padded": Convolution(16, 136, 25, 27, 130, (1, 1), padding=(1, 2)),
    "pointwise, strided": Convolution(16, 128, 56, 56, 256, (1, 1), (2, 2)),
    "stride 2": Convolution(8, 64, 57, 58, 96, (3, 3), (2, 2), (1, 1)),
    "stride 3": Convolution(8, 48, 57, 58, 96, (3, 3), (3, 3), (0, 2)),
    "two strides": Convolution(8, 40, 57, 58, 96, (5, 7), (2, 3), (2, 3)),
    "first layer": Convolution(8, 16, 113, 112, 64, (7, 7), (2, 2), (3, 3)),
    "groups": Convolution(8, 128, 40, 42, 128, (3, 3), padding=(1, 1), groups=2),
    "groups and stride": Convolution(8, 128, 80, 82, 256, (3, 3), (2, 2), (1, 1), groups=4),
    "pointwise groups": Convolution(16, 256, 40, 42, 128, (1, 1), groups=2),
}

THIN = {
    "depthwise": Convolution(8, 48, 40, 41, 48, (7, 7), padding=(3, 3), groups=48),
    "depthwise, strided": Convolution(8, 48, 40, 41, 96, (3, 9), (2, 3), (1, 4), groups=48),
    "two channels a group": Convolution(
        4, 32, 33, 35, 48, (3, 3), (1, 1), (2, 2), (2, 2), groups=16
    ),
}


HOPPER = (9, 0)
NONE, MMA, WGMMA = range(3)
"""What ``conv2d_prepare`` says the tensor cores are programmed with."""


@pytest.fixture(scope="module", name="module", params=[None, "compute_80"])
def conv2d_module(request: pytest.FixtureRequest) -> ModuleType:
    """The solution as it is; on Hopper with Ampere's instructions too, which it runs as well."""
    if request.param is not None and torch.cuda.get_device_capability() != HOPPER:
        pytest.skip("the solution as it is has these instructions")
    found = solution(request.param)
    found.architecture = request.param
    return found


def operands(case: Convolution) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, weight, bias and the gradient of the output."""
    torch.manual_seed(0)
    x = torch.rand(case.x, device="cuda")
    weight = torch.randn(case.weight, device="cuda")
    bias = torch.randn(case.filters, device="cuda")
    return x, weight, bias, torch.randn(case.y, device="cuda")


def true(case: Convolution, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """y, dx, dw and db in float64."""
    x, weight, bias, dy = (t.double() for t in tensors)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    y = torch.nn.functional.conv2d(*leaves, *case.geometry)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def ours(module: ModuleType, case: Convolution, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """The same by the solution."""
    *leaves, dy = (t.clone().requires_grad_() for t in tensors)
    y = module.Conv2dFunction.apply(*leaves, *case.geometry)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy.detach())]


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative L2."""
    return float((found.double() - exact).norm() / exact.norm())


@pytest.fixture(params=[True, False], ids=["tf32", "fp32"])
def tf32(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether convolutions may use TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", request.param)
    return bool(request.param)


def test_the_tensor_cores_are_used_with_the_best_instructions_built(module: ModuleType) -> None:
    capability = torch.cuda.get_device_capability()
    expected = WGMMA if capability == HOPPER and module.architecture is None else MMA
    if capability < (8, 0):
        expected = NONE
    assert module.conv2d_extension.conv2d_prepare() == expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_all_passes_are_right_and_the_same_twice(
    module: ModuleType, case: Convolution, tf32: bool
) -> None:
    tensors = operands(case)
    found, again = ours(module, case, *tensors), ours(module, case, *tensors)
    budgets = [*[BUDGETS[tf32]] * 3, SERIAL]
    for one, other, exact, budget in zip(found, again, true(case, *tensors), budgets):
        assert error(one, exact) < budget
        assert torch.equal(one, other)


@pytest.mark.parametrize("case", THIN.values(), ids=THIN)
def test_thin_groups_are_right_and_the_same_twice(module: ModuleType, case: Convolution) -> None:
    tensors = operands(case)
    found, again = ours(module, case, *tensors), ours(module, case, *tensors)
    for one, other, exact in zip(found, again, true(case, *tensors)):
        assert error(one, exact) < SERIAL
        assert torch.equal(one, other)


def test_magnitudes_that_halves_cannot_hold_lose_nothing(module: ModuleType, tf32: bool) -> None:
    case = CASES["three by three"]
    x, weight, bias, dy = operands(case)
    x[:2] *= 1e-12
    dy[1:] *= 1e-9
    bias.zero_()
    found, exact = ours(module, case, x, weight, bias, dy), true(case, x, weight, bias, dy)
    parts = [*zip(found, exact), (found[0][:2], exact[0][:2]), (found[1][1:], exact[1][1:])]
    assert all(error(one, other) < SERIAL for one, other in parts)


def test_an_infinity_reaches_the_outputs_that_see_it_and_no_others(
    module: ModuleType, tf32: bool
) -> None:
    case = CASES["three by three"]
    x, weight, bias, dy = operands(case)
    x[0, 0, 5, 5] = float("inf")
    y = ours(module, case, x, weight, bias, dy)[0]
    seen = torch.zeros_like(y, dtype=torch.bool)
    seen[0, :, 4:7, 4:7] = True
    assert not torch.isfinite(y[seen]).any()
    assert torch.isfinite(y[~seen]).all()
