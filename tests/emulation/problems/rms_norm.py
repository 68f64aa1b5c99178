"""Rows divided by their root mean square, with a weight for every feature."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """
    Divides every row by its root mean square.

    Args:
        features: Elements in a row.
        eps: Added to the mean of the squares.
    """

    def __init__(self, features: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.eps = eps

    def forward(self, x: torch.Tensor):
        mean = x.square().mean(dim=-1, keepdim=True)
        return x * torch.rsqrt(mean + self.eps) * self.weight


def get_inputs():
    return [torch.randn(512, 512)]


def get_init_inputs():
    return [512]


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_feature": ({"features": 1}, [(3, 1)]),
    "half_warp_tail": ({"features": 17}, [(5, 17)]),
    "block_tail": ({"features": 129}, [(4, 129)]),
    "small": ({"features": 67}, [(21, 67)]),
}
CPU_HEADLINE = "small"
