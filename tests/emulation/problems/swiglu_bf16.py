"""A gated activation in bfloat16."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    """Multiplies the SiLU of one tensor with another tensor."""

    def __init__(self):
        super().__init__()

    def forward(self, gate: torch.Tensor, value: torch.Tensor):
        return F.silu(gate) * value


def get_inputs():
    return [torch.randn(64, 4096), torch.randn(64, 4096)]


def get_init_inputs():
    return []


DTYPE = "bfloat16"
GRADIENTS = "off"

CASES: dict[str, tuple[dict | list, list]] = {
    "one_element": ([], [(1,), (1,)]),
    "odd": ([], [(7, 33), (7, 33)]),
    "multiple_of_eight": ([], [(2, 512), (2, 512)]),
    "small": ([], [(5, 203), (5, 203)]),
}
CPU_HEADLINE = "small"
