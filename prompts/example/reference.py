"""The reference of the worked example: adds two tensors, the second one scaled."""

import torch
import torch.nn as nn


class Model(nn.Module):
    """Adds a multiple of one tensor to another of the same shape."""

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + self.alpha * b


batch_size = 64
features = 4096


def get_inputs():
    return [torch.randn(batch_size, features), torch.randn(batch_size, features)]


def get_init_inputs():
    return [0.5]
