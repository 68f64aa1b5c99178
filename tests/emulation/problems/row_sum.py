"""The sum of every row of a matrix."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Sums every row."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return torch.sum(x, dim=1)


def get_inputs():
    return [torch.rand(512, 1024)]


def get_init_inputs():
    return []


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_column": ([], [(5, 1)]),
    "warp_tail": ([], [(7, 33)]),
    "block_tail": ([], [(3, 257)]),
    "wider_than_a_block": ([], [(2, 1500)]),
    "small": ([], [(13, 203)]),
}
CPU_HEADLINE = "small"
