"""Distances from the float64 values, and the budgets that they are held against.

The budget of a tensor is a stated multiple of the error that the reference
itself makes in the problem's declared precision, per norm, and at least a floor
that an honest kernel with another order of summation needs. Where the policy
allows TF32, the reference's error is at least what rounding the operands to
TF32 does to the float64 result: no device and no library choice enters.

Does not: run a model. Works on the device that the tensors are on.
"""

from __future__ import annotations

import math

import torch

from harness.oracle.problem import Tolerance
from harness.records import Norms, Worst, finite_or_huge

TILE = 256
FLOORS = {
    torch.float64: 2.0**-44,
    torch.float32: 2.0**-15,
    torch.float16: 2.0**-9,
    torch.bfloat16: 2.0**-6,
}
"""Relative L2 error that is always allowed, by dtype: 256 units of the last place for float32
(3.1e-5; a serial sum over a million terms makes 2e-5), far below TF32's 3e-4. Fewer units for
the half formats, whose outputs are rounded once."""
_CANCELLED = 4 * torch.finfo(torch.float32).eps
"""Values this much smaller than what they are made of are what float32 leaves of zero."""
_MAXIMUM_TO_L2, _TILE_TO_L2 = 10.0, 3.0
"""The floors of the other two norms, as multiples: the largest of 1e8 normal errors lies
six deviations out, a tile of 256 within 1.3."""


def norms(
    got: torch.Tensor, expected: torch.Tensor, *, scale: float, typical: float = 0.0
) -> Norms:
    """How far ``got`` is from ``expected`` (float64, any shape), relative to its size.

    ``typical`` is a size that ``expected`` usually has, where it is known; so few values that
    all may be small by chance count as that large. ``scale`` is the size of what goes in. It
    stands in for the size of ``expected`` where that is zero but for cancellation (the gradient
    of a softmax under a constant cotangent). NaN must meet NaN and an infinity the same infinity.
    """
    if got.numel() == 0:
        return Norms(relative_l2=0, maximum=0, tile=0)
    finite = torch.isfinite(expected)
    if not _same_nonfinite(got, expected, finite):
        return Norms(relative_l2=1e308, maximum=1e308, tile=1e308)
    difference = _difference(got, expected, finite)
    rms = math.sqrt(torch.where(finite, expected, 0.0).square().mean().item())
    rms = max(rms, typical)
    if rms <= _CANCELLED * scale:
        rms = scale or 1.0
    squares = difference.square()
    padding = -squares.numel() % TILE
    tiles = torch.nn.functional.pad(squares.view(-1), (0, padding)).view(-1, TILE).mean(1)
    return Norms(
        relative_l2=finite_or_huge(math.sqrt(squares.mean().item()) / rms),
        maximum=finite_or_huge(difference.abs().max().item() / rms),
        tile=finite_or_huge(math.sqrt(tiles.max().item()) / rms),
    )


def worst(got: torch.Tensor, expected: torch.Tensor) -> Worst:
    """The element that is furthest off; one that should be finite and is not comes first."""
    finite = torch.isfinite(expected)
    bad = (torch.isnan(got) != torch.isnan(expected)) | ((got != expected) & ~finite)
    bad = (bad & ~(torch.isnan(got) & torch.isnan(expected))) | (finite & ~torch.isfinite(got))
    score = torch.where(bad, math.inf, _difference(got, expected, finite).abs())
    flat = int(score.reshape(-1).argmax())
    index = []
    for size in reversed(expected.shape):
        index.append(flat % size)
        flat //= size
    at = tuple(reversed(index))
    return Worst(index=at, got=_printable(got[at]), expected=_printable(expected[at]))


def budget(reference: Norms, tolerance: Tolerance, dtype: torch.dtype) -> Norms:
    """The largest distance that passes."""
    floor = tolerance.floor or FLOORS.get(dtype, 0.0)
    return Norms(
        relative_l2=max(tolerance.multiple * reference.relative_l2, floor),
        maximum=max(tolerance.multiple * reference.maximum, floor * _MAXIMUM_TO_L2),
        tile=max(tolerance.multiple * reference.tile, floor * _TILE_TO_L2),
    )


def larger(a: Norms, b: Norms) -> Norms:
    """The larger of two, norm by norm."""
    return Norms(
        relative_l2=max(a.relative_l2, b.relative_l2),
        maximum=max(a.maximum, b.maximum),
        tile=max(a.tile, b.tile),
    )


def round_to_tf32(tensor: torch.Tensor) -> torch.Tensor:
    """Round float32 values to TF32's ten bits of mantissa, to nearest, ties to even."""
    if tensor.dtype is not torch.float32:
        return tensor
    bits = tensor.contiguous().view(torch.int32)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF
    return torch.where(torch.isfinite(tensor), rounded.view(torch.float32), tensor)


def truncate_to_tf32(tensor: torch.Tensor) -> torch.Tensor:
    """Drop what TF32 has no bits for, as tensor cores do with float32 that nobody rounded."""
    if tensor.dtype is not torch.float32:
        return tensor
    cut = (tensor.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)
    return torch.where(torch.isfinite(tensor), cut, tensor)


def round_to_serial_sums(tensor: torch.Tensor) -> torch.Tensor:
    """Round by as much as a serial sum of a thousand terms does: to five bits less.

    A sum of equal terms, one by one, is off by some 0.3 times the root of their number in units
    of the last place. As an error of the operands it says what that does to a result that is
    small beside them. Half formats, whose sums are carried on in float32, stay as they are.
    """
    if tensor.dtype not in (torch.float32, torch.float64):
        return tensor
    large = tensor * (2.0**5 + 1)
    rounded = large - (large - tensor)  # Dekker's splitting
    return torch.where(torch.isfinite(rounded), rounded, tensor)


def _difference(got: torch.Tensor, expected: torch.Tensor, finite: torch.Tensor) -> torch.Tensor:
    return torch.where(finite, got - expected, 0.0)


def _same_nonfinite(got: torch.Tensor, expected: torch.Tensor, finite: torch.Tensor) -> bool:
    same = torch.isfinite(got) & finite | (got == expected) & ~finite
    return bool((same | torch.isnan(got) & torch.isnan(expected)).all())


def _printable(element: torch.Tensor) -> float:
    value = float(element)
    if math.isnan(value):
        return value
    return max(-1e308, min(1e308, value))
