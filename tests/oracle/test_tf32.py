"""TF32 is allowed or not as it is asked for, by whichever way something else was set before."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from harness.worker.tf32 import allow_tf32

pytestmark = pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="this PyTorch has one way only"
)
BEFORE: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "the switches": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "one operator exact": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "one operator in TF32": lambda: setattr(torch.backends.cudnn.rnn, "fp32_precision", "tf32"),
    "products": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "cuDNN in TF32": lambda: setattr(torch.backends.cudnn, "fp32_precision", "tf32"),
    "all in TF32": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "all exact": lambda: setattr(torch.backends, "fp32_precision", "ieee"),
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """PyTorch's own defaults, before and after."""
    yield
    allow_tf32(False)
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_what_is_asked_for_is_what_every_way_to_read_it_says(
    before: Callable[[], None], allowed: bool
) -> None:
    before()
    allow_tf32(allowed)
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    assert cuda.matmul.allow_tf32 == cudnn.allow_tf32 == allowed
    for operators in (cuda.matmul, cudnn.conv, cudnn.rnn):
        assert (operators.fp32_precision == "tf32") == allowed
