"""Questions with another forward between a forward and its backward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.oracle import draws
from harness.records import TensorRole
from tests.oracle.test_reference import answered, asked, reference, targets

GRADIENTS = {TensorRole.GRAD_INPUT, TensorRole.GRAD_PARAMETER}


def test_a_forward_that_comes_between_is_new_and_changes_nothing_that_is_expected(
    tmp_path: Path,
) -> None:
    terms = {"init": "self.bn = nn.BatchNorm1d(5)"}
    between = answered(asked(tmp_path, "return self.bn(x)", draws.INTERLEAVED, **terms))
    plain = answered(asked(tmp_path, "return self.bn(x)", draws.MIXED, **terms))
    (other,) = between.other_args
    assert plain.other_args == []
    assert other.shape == between.args[0].shape
    assert not torch.equal(other, between.args[0])
    for target in targets(between):
        (same,) = [t for t in targets(plain) if t.name == target.name]
        assert target.role in GRADIENTS or torch.equal(target.values, same.values), target.name
        assert target.reference_error.relative_l2 < 1e-6
    assert float(between.buffers[-1].values) == 1, "one forward was counted"


@pytest.mark.parametrize(
    "body",
    [
        "self.kept = x\nreturn Latest.apply(x, self)",
        "self.scale.mul_(1.5)\nreturn x * self.scale",
    ],
)
def test_a_reference_that_cannot_take_a_forward_between_is_not_asked_to(
    body: str, tmp_path: Path
) -> None:
    latest = """
class Latest(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, module):
        ctx.module = module
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.module.kept.detach(), None
"""
    init = "self.register_buffer('scale', torch.full((5,), 0.7))"
    assert asked(tmp_path, body, draws.INTERLEAVED, init=init, more=latest) is None
    assert answered(asked(tmp_path, body, draws.MIXED, init=init, more=latest)).gradients


def test_without_gradients_no_forward_comes_between() -> None:
    asking = reference("relu", "prime")
    assert asking.ask(draws.INTERLEAVED, 1, gradients=False) is None
