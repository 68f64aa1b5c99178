"""The square of the rectified input, with gradients."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Squares what is positive, and replaces the rest by zero."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return torch.relu(x).square()


def get_inputs():
    return [torch.randn(64, 4096)]


def get_init_inputs():
    return []


GRADIENTS = "required"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_element": ([], [(1,)]),
    "block_tail": ([], [(257,)]),
    "two_dimensions": ([], [(37, 29)]),
    "three_dimensions": ([], [(3, 5, 7)]),
    "small": ([], [(3, 1031)]),
}
CPU_HEADLINE = "small"
