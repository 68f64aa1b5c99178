"""The product of two matrices in half precision."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Multiplies two matrices."""

    def __init__(self):
        super().__init__()

    def forward(self, a: torch.Tensor, b: torch.Tensor):
        return torch.matmul(a, b)


def get_inputs():
    return [torch.rand(256, 384), torch.rand(384, 320)]


def get_init_inputs():
    return []


DTYPE = "float16"
GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_element": ([], [(1, 1), (1, 1)]),
    "one_tile": ([], [(16, 16), (16, 16)]),
    "tile_tails": ([], [(17, 21), (21, 35)]),
    "long_sums": ([], [(5, 1531), (1531, 6)]),
    "small": ([], [(19, 40), (40, 26)]),
}
CPU_HEADLINE = "small"
