"""A small computation with a known result, to tell a sick device from a hard candidate.

Runs in a fresh oracle, where no candidate has been. Does not: decide what becomes of a device.
"""

from __future__ import annotations

import torch

from harness.errors import DeviceFault
from harness.wire import Message

_SIZE = 1024
_PATTERN_BYTES = 64 << 20


def examine(device: str) -> Message:
    """Multiply integers on the device, fill some memory and read it back.

    The factors are integers up to 8: every partial sum is exact in float32, and the factors
    are in TF32 as well, so a healthy device has exactly one right answer.

    Raises:
        DeviceFault: something came out wrong.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randint(-8, 9, (_SIZE, _SIZE), generator=generator, dtype=torch.float32)
        for _ in range(2)
    )
    product = (left.to(device) @ right.to(device)).cpu()
    if not torch.equal(product, (left.double() @ right.double()).float()):
        raise DeviceFault("a product of two small matrices of integers came out wrong")
    for value in (0x55, 0xAA):
        memory = torch.full((_PATTERN_BYTES,), value, dtype=torch.uint8, device=device)
        if not bool((memory == value).all()):
            raise DeviceFault("memory does not hold what was written to it")
        del memory
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    return {}
