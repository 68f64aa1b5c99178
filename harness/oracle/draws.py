"""What the inputs, weights and cotangents of a trial look like: values, scales and layouts.

Every trial draws all of them anew from its own seed. The draws differ in what
they would expose: a kernel that is only right on [0, 1), that computes in fp16
(large and tiny values leave its range but not TF32's), that ignores strides or
alignment, that drops NaN, or that does not wait for the current stream.

Does not: run anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from harness.arena import contiguous_stride

LARGE, TINY = 2.0**20, 2.0**-24
"""Outside fp16's range (2^-24 … 2^16) once multiplied with values near 1, inside TF32's."""
FAR = 2.0**10
"""A mean in standard deviations. A variance as a difference of squares loses the square of it in
units of the last place (5 % of a float32 output, whatever the order of summation), a mean that is
subtracted first loses it once (0.05 % if a thousand terms are added up one by one)."""


class Layout(StrEnum):
    """How a tensor lies in memory."""

    CONTIGUOUS = "contiguous"
    STRIDED = "strided"
    OFFSET = "offset"
    EXPANDED = "expanded"


@dataclass(frozen=True)
class Draw:
    """One way of making a trial's tensors."""

    name: str
    mixed: bool = True
    """Normal values of both signs in place of the declared distribution."""
    special: bool = False
    """Some NaN and infinities among the inputs; forward only."""
    input_mean: float = 0.0
    """Added to the inputs; see ``mean_in``."""
    input_scale: float = 1.0
    weight_scale: float = 1.0
    cotangent_scale: float = 1.0
    inputs: Layout = Layout.CONTIGUOUS
    cotangents: Layout = Layout.CONTIGUOUS
    late: bool = False
    """Inputs and cotangents are still being made, on the current stream, when they are used."""
    interleaved: bool = False
    """Another forward, on other inputs, comes between the forward and its backward."""
    first_gradient_only: bool = False
    """Only the first input and the first parameter require a gradient."""
    frozen_inputs: bool = False
    """Only parameters require a gradient; has no meaning where there are none."""


DECLARED = Draw("declared", mixed=False)
MIXED = Draw("mixed")
STRIDED = Draw("strided", inputs=Layout.STRIDED, cotangents=Layout.STRIDED)
OFFSET = Draw("offset", inputs=Layout.OFFSET, cotangents=Layout.EXPANDED)
SUBSET = Draw("gradient_subset", first_gradient_only=True)
FROZEN = Draw("frozen_inputs", frozen_inputs=True)
OFF_CENTRE = Draw("off_centre", input_mean=FAR)
LARGE_VALUES = Draw("large", input_scale=LARGE, weight_scale=TINY, cotangent_scale=LARGE)
TINY_VALUES = Draw("tiny", input_scale=TINY, weight_scale=LARGE, cotangent_scale=TINY)
SPECIAL = Draw("special_values", special=True)
INTERLEAVED = Draw("interleaved", interleaved=True)
LATE = Draw("late_producer", late=True)


def for_probe(*, special: bool, gpu: bool) -> list[Draw]:
    """The draws of the case that is probed in every way."""
    draws = [DECLARED, MIXED, OFF_CENTRE, LARGE_VALUES, TINY_VALUES, STRIDED, OFFSET]
    draws += [SUBSET, FROZEN, INTERLEAVED]
    return [*draws, *([SPECIAL] if special else []), *([LATE] if gpu else [])]


def for_small(index: int) -> list[Draw]:
    """The draws of the other small cases: plain values, and one odd layout in turn."""
    return [MIXED, (STRIDED, OFFSET)[index % 2]]


def for_headline() -> list[Draw]:
    """The draws of the headline case, where small cases have gone through all others."""
    return [DECLARED, MIXED]


def stride_of(layout: Layout, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Strides and shift (both in elements) of a tensor of ``shape`` in ``layout``."""
    if layout is Layout.EXPANDED:
        return (0,) * len(shape), 0
    if layout is Layout.OFFSET:
        return contiguous_stride(shape), 1
    if layout is Layout.STRIDED and len(shape) >= 2:  # the first and last dimension swapped
        swapped = (shape[-1], *shape[1:-1], shape[0])
        stride = contiguous_stride(swapped)
        return (stride[-1], *stride[1:-1], stride[0]), 0
    if layout is Layout.STRIDED:
        return tuple(2 * s for s in contiguous_stride(shape)), 0
    return contiguous_stride(shape), 0


def mean_in(draw: Draw, dtype: torch.dtype) -> float:
    """What ``draw`` adds to inputs of a dtype: half formats hold less before the spread is lost."""
    return min(draw.input_mean, math.sqrt(1 / torch.finfo(dtype).eps))


def apply(draw: Draw, value: Any) -> Any:
    """The values of one argument of the forward under ``draw`` (integers stay as they are)."""
    if isinstance(value, list | tuple):
        return type(value)(apply(draw, v) for v in value)
    if isinstance(value, dict):
        return {k: apply(draw, v) for k, v in value.items()}
    if not (isinstance(value, torch.Tensor) and value.is_floating_point()):
        return value
    dense = torch.contiguous_format  # the layout is the arena's to give
    values = (
        torch.randn_like(value, memory_format=dense)
        if draw.mixed
        else value.clone(memory_format=dense)
    )
    values *= draw.input_scale
    if draw.input_mean:
        values += mean_in(draw, values.dtype)
    if draw.special and values.numel() >= 3:
        flat = values.view(-1)
        at = torch.randperm(flat.numel(), device=flat.device)[: max(3, flat.numel() // 50)]
        kinds = torch.tensor([float("nan"), float("inf"), float("-inf")], device=flat.device)
        flat[at] = kinds[torch.arange(at.numel(), device=flat.device) % 3].to(flat.dtype)
    return values


def redraw_weights(model: nn.Module, initial: dict[str, torch.Tensor], scale: float) -> None:
    """Give a model new weights around its initial ones, so that none can be known beforehand.

    Constant weights (a scale of one, a bias of zero) vary too, else a kernel that
    leaves them out would pass. Positive buffers, such as a running variance, stay so,
    and tables, such as a causal mask, stay as they are.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            start = initial[name]
            if name not in parameters and _is_table(start):
                tensor.copy_(start)
                continue
            size = float(start.square().mean().sqrt()) or 0.2
            if name in parameters:
                tensor.copy_((start + 0.5 * size * torch.randn_like(start)) * scale)
            elif bool((start > 0).all()):
                tensor.copy_(start * (1 + 0.25 * torch.rand_like(start)))
            else:
                tensor.copy_(start + 0.5 * size * torch.randn_like(start))


def cotangent(draw: Draw, like: torch.Tensor) -> torch.Tensor:
    """A random gradient of one output; an expanded one is one number for all elements.

    Outputs that cannot have one, such as indices, get zeros that nobody reads.
    """
    if not (like.is_floating_point() or like.is_complex()):
        return torch.zeros_like(like)
    if draw.cotangents is Layout.EXPANDED:
        one = torch.rand((), dtype=like.dtype, device=like.device) + 0.5
        return (one * draw.cotangent_scale).expand(like.shape)
    return torch.randn_like(like) * draw.cotangent_scale


def _is_table(buffer: torch.Tensor) -> bool:
    """Whether a buffer holds what is looked up, not learnt: several whole numbers or infinities."""
    whole = bool(((buffer == buffer.round()) | ~torch.isfinite(buffer)).all())
    return whole and bool((buffer != buffer.flatten()[0]).any())
