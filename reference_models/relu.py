"""Elementwise ReLU.

KernelBench's level 1 problem 19 at a size where launch latency counts as much as bandwidth.
The inputs have both signs: on torch.rand's non-negative numbers, returning x would pass.
NaN and infinities have a meaning to keep: relu(NaN) is NaN, relu(-inf) is 0, and the gradient
passes wherever the output is not <= 0, which includes NaN.
"""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Replaces every negative element by zero."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: Tensor of any shape.

        Returns:
            Tensor of the same shape.
        """
        return torch.relu(x)


batch_size = 16
features = 16384


def get_inputs():
    x = torch.randn(batch_size, features)
    return [x]


def get_init_inputs():
    return []


TF32 = "forbidden"
GRADIENTS = "required"
SPECIAL_VALUES = True

CASES: dict[str, tuple[dict | list, list]] = {
    "one_element": ([], [(1,)]),
    "three_elements": ([], [(3,)]),
    "prime": ([], [(1009,)]),
    "vector_width_tail": ([], [(4, 257)]),
    "block_tail": ([], [(1025,)]),
    "row": ([], [(1, 4099)]),
    "column": ([], [(521, 1)]),
    "three_dimensions": ([], [(5, 7, 11)]),
    "image": ([], [(2, 3, 13, 17)]),
    "six_dimensions": ([], [(2, 1, 3, 2, 5, 7)]),
    "cpu_headline": ([], [(64, 16384)]),
}
CPU_HEADLINE = "cpu_headline"


def forward_flops(model: Model, x: torch.Tensor) -> int:
    """One comparison an element."""
    return x.numel()


def forward_bytes(model: Model, x: torch.Tensor) -> int:
    """Bytes of one forward that reads the input once and writes the output once."""
    return 2 * x.numel() * x.element_size()
