"""The running sum of every row of a matrix."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Sums every row up to each of its elements."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return torch.cumsum(x, dim=1)


def get_inputs():
    return [torch.rand(64, 4096)]


def get_init_inputs():
    return []


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_column": ([], [(3, 1)]),
    "warp_tail": ([], [(5, 35)]),
    "block_tail": ([], [(2, 257)]),
    "one_row": ([], [(1, 1021)]),
    "small": ([], [(7, 301)]),
}
CPU_HEADLINE = "small"
