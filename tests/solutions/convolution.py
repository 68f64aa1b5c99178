"""The conv2d solution as a module, and the convolutions that tests and benchmarks try it on.

Does not: need a GPU to be imported.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

SOLUTION = Path(__file__).resolve().parents[2] / "solutions" / "conv2d.py"


class Convolution(NamedTuple):
    """One convolution; ``channels`` and ``filters`` count those of all groups."""

    batch: int
    channels: int
    height: int
    width: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def x(self) -> tuple[int, int, int, int]:
        """The input's shape."""
        return self.batch, self.channels, self.height, self.width

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """The shape of the filters."""
        return self.filters, self.channels // self.groups, *self.kernel

    @property
    def y(self) -> tuple[int, int, int, int]:
        """The output's shape."""
        sizes = zip(self.x[2:], self.kernel, self.stride, self.padding, self.dilation)
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
        return self.batch, self.filters, height, width

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
        """What a convolution takes behind its bias."""
        return self.stride, self.padding, self.dilation, self.groups

    @property
    def flop(self) -> float:
        """Two for each multiplication of one pass, those with padding included."""
        _, channels, kernel_height, kernel_width = self.weight
        batch, filters, height, width = self.y
        return 2.0 * batch * filters * height * width * channels * kernel_height * kernel_width


def solution(architecture: str | None = None) -> ModuleType:
    """The solution, built as anybody would build it.

    Args:
        architecture: On Hopper, the one whose instructions it is built with, like ``compute_80``;
            by default Hopper's own.

    Raises:
        ValueError: It no longer asks for Hopper's as expected here.
    """
    text, name = SOLUTION.read_text(), "conv2d_solution"
    if architecture is not None:
        hopper = "arch=compute_90a,code=sm_90a"
        if text.count(hopper) != 1 or text.count(f'name="{name}"') != 1:
            raise ValueError(f"{SOLUTION.name} does not ask for Hopper's instructions once")
        text = text.replace(hopper, f"arch={architecture},code=sm_90")
        text = text.replace(f'name="{name}"', f'name="{name}_{architecture}"')
    module = ModuleType(name)
    exec(compile(text, SOLUTION, "exec"), module.__dict__)
    return module


def rounded(dtype: str) -> str:
    """The solution's text with image and filters rounded to a half format before they are used.

    Raises:
        ValueError: It no longer calls its forward as expected here.
    """
    source = SOLUTION.read_text()
    operands = "conv2d_forward(x, weight, bias"
    if source.count(operands) != 1:
        raise ValueError(f"{SOLUTION.name} does not have {operands!r} once")
    half = ", ".join(f"{name}.to(torch.{dtype}).to({name}.dtype)" for name in ("x", "weight"))
    return source.replace(operands, operands.replace("x, weight", half))
