"""The index of the largest element of every row."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Finds the largest element of every row."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return torch.argmax(x, dim=1)


def get_inputs():
    return [torch.rand(256, 1024)]


def get_init_inputs():
    return []


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_column": ([], [(5, 1)]),
    "warp_tail": ([], [(4, 33)]),
    "block_tail": ([], [(3, 257)]),
    "small": ([], [(9, 301)]),
}
CPU_HEADLINE = "small"
