"""How often every whole number below `bins` occurs."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Counts the values; every value is at least 0 and less than `bins`."""

    def __init__(self, bins: int = 32):
        super().__init__()
        self.bins = bins

    def forward(self, x: torch.Tensor):
        return torch.bincount(x.reshape(-1), minlength=self.bins)


def get_inputs():
    return [torch.randint(0, 32, (512, 512))]


def get_init_inputs():
    return [32]


GRADIENTS = "off"

CASES: dict[str, tuple] = {
    "one_value": ({"bins": 3}, lambda: [torch.randint(0, 3, (1,))]),
    "few_bins": ({"bins": 7}, lambda: [torch.randint(0, 7, (3, 41))]),
    "all_the_same": ({"bins": 5}, lambda: [torch.full((259,), 4)]),
    "small": ({"bins": 37}, lambda: [torch.randint(0, 37, (11, 101))]),
}
CPU_HEADLINE = "small"
