"""The softmax of every row of a matrix."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Normalises the exponentials of every row to sum to one."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return torch.softmax(x, dim=1)


def get_inputs():
    return [torch.rand(256, 1024)]


def get_init_inputs():
    return []


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_column": ([], [(9, 1)]),
    "warp_tail": ([], [(3, 33)]),
    "block_tail": ([], [(2, 259)]),
    "small": ([], [(13, 101)]),
}
CPU_HEADLINE = "small"
