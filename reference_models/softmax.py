"""Softmax along one dimension.

KernelBench's level 1 problem 23 with the dimension as an argument. The headline is 4096 rows of
16384: a row (64 KiB) fits on chip, so a good kernel reads and writes every element once.
The cases put the dimension first, last and in the middle, and make it 1 long.
"""

import torch
import torch.nn as nn


class Model(nn.Module):
    """
    Normalises exponentials to sum to one.

    Args:
        dim: The dimension along which the elements sum to one; negative counts from the end.
    """

    def __init__(self, dim: int = 1):
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: Tensor with at least one dimension.

        Returns:
            Tensor of the same shape.
        """
        return torch.softmax(x, dim=self.dim)


batch_size = 4096
features = 16384


def get_inputs():
    x = torch.randn(batch_size, features)
    return [x]


def get_init_inputs():
    return []


TF32 = "forbidden"
GRADIENTS = "required"

CASES: dict[str, tuple[dict | list, list]] = {
    "row_of_one": ({}, [(7, 1)]),
    "short_rows": ({}, [(67, 3)]),
    "warp_tail": ({}, [(5, 33)]),
    "prime": ({}, [(13, 1009)]),
    "block_tail": ({}, [(3, 1025)]),
    "long_row": ({}, [(1, 20011)]),
    "vector": ({"dim": 0}, [(257,)]),
    "columns": ({"dim": 0}, [(129, 35)]),
    "columns_of_one": ({"dim": 0}, [(1, 37)]),
    "middle": ({"dim": 1}, [(3, 17, 5)]),
    "middle_of_four": ({"dim": -2}, [(2, 3, 19, 7)]),
    "last_of_three": ({"dim": -1}, [(3, 5, 41)]),
    "cpu_headline": ({}, [(256, 4096)]),
}
CPU_HEADLINE = "cpu_headline"


def forward_flops(model: Model, x: torch.Tensor) -> int:
    """An element's comparison, subtraction, exponential, addition and division count one each."""
    return 5 * x.numel()


def forward_bytes(model: Model, x: torch.Tensor) -> int:
    """Bytes of one forward that reads the input once and writes the output once."""
    return 2 * x.numel() * x.element_size()
