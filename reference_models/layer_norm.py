"""Layer normalisation over the trailing dimensions, with weight and bias.

KernelBench's level 1 problem 40 with another headline: 8192 rows of 4096, as in a transformer.
A row (16 KiB) fits on chip and there are many of them, so a good kernel reads and writes every
element once and fills the device. KernelBench's own size has 16 rows of 4 Mi elements: it needs
several blocks a row and a second pass over memory, and measures that instead. The cases keep
its multi-dimensional normalized_shape.
"""

import torch
import torch.nn as nn


class Model(nn.Module):
    """
    Gives every row mean 0 and variance 1, then scales and shifts each of its elements.

    Args:
        normalized_shape: The trailing dimensions that make up a row.
    """

    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: Tensor of shape (*, normalized_shape).

        Returns:
            Tensor of the same shape.
        """
        return self.ln(x)


batch_size = 8192
features = 4096


def get_inputs():
    x = torch.randn(batch_size, features)
    return [x]


def get_init_inputs():
    return [(features,)]


TF32 = "forbidden"
GRADIENTS = "required"

CASES: dict[str, tuple[dict | list, list]] = {
    "three_features": ({"normalized_shape": (3,)}, [(9, 3)]),
    "odd_features": ({"normalized_shape": (7,)}, [(5, 7)]),
    "warp_tail": ({"normalized_shape": (33,)}, [(67, 33)]),
    "prime": ({"normalized_shape": (1009,)}, [(13, 1009)]),
    "block_tail": ({"normalized_shape": (1025,)}, [(3, 1025)]),
    "one_row": ({"normalized_shape": (257,)}, [(1, 257)]),
    "no_batch_dimension": ({"normalized_shape": (65,)}, [(65,)]),
    "long_row": ({"normalized_shape": (20011,)}, [(2, 20011)]),
    "many_rows": ({"normalized_shape": (5,)}, [(1031, 5)]),
    "sequence": ({"normalized_shape": (48,)}, [(3, 11, 48)]),
    "image": ({"normalized_shape": (3, 7, 11)}, [(4, 3, 7, 11)]),
    "last_two_of_four": ({"normalized_shape": (5, 13)}, [(2, 3, 5, 13)]),
    "cpu_headline": ({"normalized_shape": (1024,)}, [(1024, 1024)]),
}
CPU_HEADLINE = "cpu_headline"


def forward_flops(model: Model, x: torch.Tensor) -> int:
    """Eight an element: mean 1, centring 1, variance 2, normalising 2, scale 1, shift 1."""
    return 8 * x.numel()


def forward_bytes(model: Model, x: torch.Tensor) -> int:
    """Bytes of one forward that reads input, weight and bias once and writes the output once."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (2 * x.numel() + parameters) * x.element_size()
