"""The inner products of the rows of two matrices, in double precision."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Multiplies row with row and sums."""

    def __init__(self):
        super().__init__()

    def forward(self, a: torch.Tensor, b: torch.Tensor):
        return (a * b).sum(dim=1)


def get_inputs():
    return [torch.rand(128, 2048), torch.rand(128, 2048)]


def get_init_inputs():
    return []


DTYPE = "float64"
GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_column": ([], [(6, 1), (6, 1)]),
    "warp_tail": ([], [(3, 31), (3, 31)]),
    "one_row": ([], [(1, 1000), (1, 1000)]),
    "small": ([], [(5, 517), (5, 517)]),
}
CPU_HEADLINE = "small"
