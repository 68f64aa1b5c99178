"""A 3 x 3 filter over images, with zeros around them."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    """Filters every image with the same nine weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 3), 1 / 9))

    def forward(self, x: torch.Tensor):
        return F.conv2d(x[:, None], self.weight[None, None], padding=1)[:, 0]


def get_inputs():
    return [torch.rand(16, 128, 128)]


def get_init_inputs():
    return []


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_pixel": ([], [(1, 1, 1)]),
    "one_row": ([], [(2, 1, 35)]),
    "one_column": ([], [(2, 33, 1)]),
    "tile_tails": ([], [(1, 17, 34)]),
    "small": ([], [(3, 19, 23)]),
}
CPU_HEADLINE = "small"
