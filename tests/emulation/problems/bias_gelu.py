"""A bias and a GELU after it."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    """
    Adds a bias to every row and applies the GELU.

    Args:
        features: Elements in a row.
    """

    def __init__(self, features: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor):
        return F.gelu(x + self.bias)


def get_inputs():
    return [torch.randn(256, 1024)]


def get_init_inputs():
    return [1024]


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_feature": ({"features": 1}, [(7, 1)]),
    "multiple_of_four": ({"features": 64}, [(9, 64)]),
    "odd_features": ({"features": 33}, [(5, 33)]),
    "small": ({"features": 40}, [(31, 40)]),
    "more_rows_than_a_grid_is_high": ({"features": 1}, [(65543, 1)]),
}
CPU_HEADLINE = "small"
