"""A factor for every channel of a sequence, with gradients."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """
    Multiplies every channel by a factor of its own.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: torch.Tensor):
        return x * self.gamma[:, None]


def get_inputs():
    return [torch.rand(8, 48, 512)]


def get_init_inputs():
    return [48]


GRADIENTS = "required"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_element": ({"channels": 1}, [(1, 1, 1)]),
    "one_position": ({"channels": 7}, [(5, 7, 1)]),
    "one_batch": ({"channels": 3}, [(1, 3, 131)]),
    "small": ({"channels": 5}, [(3, 5, 67)]),
}
CPU_HEADLINE = "small"
