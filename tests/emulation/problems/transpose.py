"""A batch of matrices, each with rows and columns exchanged."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Exchanges the last two dimensions."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return x.transpose(1, 2).contiguous()


def get_inputs():
    return [torch.rand(4, 256, 320)]


def get_init_inputs():
    return []


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_row": ([], [(2, 1, 37)]),
    "one_column": ([], [(3, 35, 1)]),
    "tile_tail": ([], [(1, 33, 65)]),
    "small": ([], [(2, 37, 45)]),
}
CPU_HEADLINE = "small"
