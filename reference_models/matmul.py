"""Product of two matrices, both of them inputs.

KernelBench's level 1 problem 1 at 2048 cubed: 17 GFLOP in float32, TF32 forbidden as PyTorch
forbids it for matrix products by default. The inputs have both signs, so that the rounding of a
sum cannot hide behind its mean.
"""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Multiplies two matrices."""

    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """
        Args:
            A: Matrix of shape (M, K).
            B: Matrix of shape (K, N).

        Returns:
            Matrix of shape (M, N).
        """
        return torch.matmul(A, B)


M = 2048
K = 2048
N = 2048


def get_inputs():
    A = torch.randn(M, K)
    B = torch.randn(K, N)
    return [A, B]


def get_init_inputs():
    return []


TF32 = "forbidden"
GRADIENTS = "required"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_by_one": ([], [(1, 1), (1, 1)]),
    "inner_one": ([], [(37, 1), (1, 41)]),
    "dot_product": ([], [(1, 1009), (1009, 1)]),
    "row_times_matrix": ([], [(1, 67), (67, 129)]),
    "matrix_times_column": ([], [(131, 65), (65, 1)]),
    "small_primes": ([], [(7, 5), (5, 3)]),
    "primes": ([], [(67, 71), (71, 73)]),
    "one_beyond_a_tile": ([], [(65, 17), (17, 65)]),
    "one_short_of_a_tile": ([], [(63, 15), (15, 127)]),
    "exact_tiles": ([], [(64, 64), (64, 64)]),
    "tall": ([], [(257, 9), (9, 11)]),
    "wide": ([], [(5, 19), (19, 263)]),
    "long_inner": ([], [(9, 1031), (1031, 10)]),
    "cpu_headline": ([], [(256, 256), (256, 256)]),
}
CPU_HEADLINE = "cpu_headline"


def forward_flops(model: Model, A: torch.Tensor, B: torch.Tensor) -> int:
    """Multiplications and additions of one forward."""
    return 2 * A.shape[0] * A.shape[1] * B.shape[1]


def forward_bytes(model: Model, A: torch.Tensor, B: torch.Tensor) -> int:
    """Bytes of one forward that reads both inputs once and writes the output once."""
    return (A.numel() + B.numel() + A.shape[0] * B.shape[1]) * A.element_size()
