"""Bytes scaled to [0, 1] where a mask says so, and how many of each row it chose."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Scales the chosen pixels, zeroes the others, and counts the chosen ones of every row."""

    def __init__(self):
        super().__init__()

    def forward(self, image: torch.Tensor, mask: torch.Tensor):
        return torch.where(mask, image / 255, 0), mask.sum(dim=1)


def _inputs(height, width, share=0.5):
    image = torch.randint(0, 256, (height, width), dtype=torch.uint8)
    return [image, torch.rand(height, width) < share]


def get_inputs():
    return _inputs(512, 512)


def get_init_inputs():
    return []


GRADIENTS = "off"

CASES: dict[str, tuple] = {
    "one_pixel": ([], lambda: _inputs(1, 1)),
    "odd_width": ([], lambda: _inputs(7, 35)),
    "nothing_chosen": ([], lambda: _inputs(3, 40, 0.0)),
    "everything_chosen": ([], lambda: _inputs(3, 129, 1.0)),
    "wide": ([], lambda: _inputs(2, 516)),
    "small": ([], lambda: _inputs(11, 100, 0.1)),
}
CPU_HEADLINE = "small"
