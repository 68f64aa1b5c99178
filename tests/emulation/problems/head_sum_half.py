"""The sum over a few heads, in half precision."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Sums over the first dimension."""

    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor):
        return x.sum(dim=0)


def get_inputs():
    return [torch.rand(4, 65536)]


def get_init_inputs():
    return []


DTYPE = "float16"
GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_element": ([], [(1, 1)]),
    "odd": ([], [(3, 333)]),
    "even": ([], [(2, 512)]),
    "small": ([], [(4, 1026)]),
}
CPU_HEADLINE = "small"
