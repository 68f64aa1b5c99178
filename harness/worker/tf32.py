"""Whether PyTorch's own operators may round their operands to TF32.

Since PyTorch 2.9 every operator has a precision of its own besides the older switches, and two
places hold one for all that have none. Whoever has set one of these can no longer read the
switches, and turning a switch off leaves what holds for all in force.

Does not: keep a candidate from setting them; what that may change is its own answers.
"""

from __future__ import annotations

import torch


def allow_tf32(allowed: bool) -> None:
    """Set it for matrix products and cuDNN, whatever was set before, by either way."""
    for of_all in (torch.backends, torch.backends.cudnn):
        if hasattr(of_all, "fp32_precision"):
            setattr(of_all, "fp32_precision", "none")  # noqa: B010 - modules that PyTorch replaces
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
