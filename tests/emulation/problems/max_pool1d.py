"""The maximum of windows along a sequence."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    """
    Takes the maximum of every window.

    Args:
        kernel_size: Elements in a window.
        stride: Elements between the starts of neighbouring windows.
    """

    def __init__(self, kernel_size: int = 3, stride: int = 2):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: torch.Tensor):
        return F.max_pool1d(x, self.kernel_size, self.stride)


def get_inputs():
    return [torch.rand(8, 16, 2048)]


def get_init_inputs():
    return []


GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_window": ({}, [(2, 3, 3)]),
    "no_overlap": ({"kernel_size": 2, "stride": 3}, [(1, 5, 61)]),
    "wide_windows": ({"kernel_size": 5, "stride": 1}, [(2, 2, 77)]),
    "single_elements": ({"kernel_size": 1, "stride": 2}, [(3, 1, 20)]),
    "small": ({}, [(2, 3, 151)]),
}
CPU_HEADLINE = "small"
