"""The convolutions that conv2d variants are judged on (SMALL) and clocked on (LARGE).

Does not: hold the cases that a candidate is graded on (``reference_models/conv2d.py`` does).
"""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
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
    bias: int = 0

    def out(self) -> tuple[int, int]:
        """Height and width of the output."""
        sizes = zip(
            (self.height, self.width), self.kernel, self.stride, self.padding, self.dilation
        )
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
        return height, width

    def flop(self) -> float:
        """Two for each multiplication of one pass, those with padding included."""
        height, width = self.out()
        taps = self.channels // self.groups * self.kernel[0] * self.kernel[1]
        return 2.0 * self.batch * self.filters * height * width * taps


SMALL = {
    "plain": Shape(2, 3, 11, 13, 5, (3, 3)),
    "57": Shape(2, 12, 13, 17, 20, (5, 7)),
    "57_pad": Shape(4, 64, 35, 37, 128, (5, 7), padding=(2, 3), bias=1),
    "57_odd": Shape(3, 40, 50, 71, 96, (5, 7), padding=(1, 0), bias=1),
    "59": Shape(2, 32, 40, 45, 64, (5, 9), padding=(2, 4), dilation=(2, 3)),
    "33": Shape(4, 128, 28, 28, 128, (3, 3), padding=(1, 1), bias=1),
    "33_s2": Shape(4, 64, 29, 30, 96, (3, 3), (2, 2), (1, 1)),
    "33_s3_d2": Shape(2, 32, 41, 43, 64, (3, 2), (3, 2), (2, 1), (2, 3), bias=1),
    "33_groups": Shape(2, 64, 20, 22, 128, (3, 3), padding=(1, 1), groups=2, bias=1),
    "11": Shape(3, 136, 15, 17, 130, (1, 1), bias=1),
    "11_s2": Shape(5, 64, 14, 14, 256, (1, 1), (2, 2)),
    "one_image": Shape(1, 64, 19, 23, 64, (3, 3), padding=(1, 1)),
    "depthwise": Shape(2, 48, 20, 21, 48, (7, 7), padding=(3, 3), groups=48, bias=1),
    "wide_step": Shape(2, 32, 13, 18, 64, (2, 1), (3, 4)),
}
LARGE = {
    "headline": Shape(8, 64, 512, 256, 128, (5, 7)),
    "kb62": Shape(8, 32, 512, 512, 64, (5, 9)),
    "kb80": Shape(8, 32, 512, 512, 64, (5, 9), padding=(2, 4), dilation=(2, 3)),
    "res 64x56 3x3": Shape(64, 64, 56, 56, 64, (3, 3), padding=(1, 1)),
    "res 128x28 3x3": Shape(64, 128, 28, 28, 128, (3, 3), padding=(1, 1)),
    "res 256x14 3x3": Shape(64, 256, 14, 14, 256, (3, 3), padding=(1, 1)),
    "res 128x56 3x3/2": Shape(64, 128, 56, 56, 128, (3, 3), (2, 2), (1, 1)),
    "res 256->64x56 1x1": Shape(64, 256, 56, 56, 64, (1, 1)),
    "res 256->1024x14 1x1": Shape(64, 256, 14, 14, 1024, (1, 1)),
    "vgg 128x112 3x3 b8": Shape(8, 128, 112, 112, 128, (3, 3), padding=(1, 1)),
    "one image 256x100 3x3": Shape(1, 256, 99, 101, 256, (3, 3), padding=(1, 1)),
    "convnext dw7 96x56": Shape(32, 96, 56, 56, 96, (7, 7), padding=(3, 3), groups=96),
}
HEADLINE = {"headline": LARGE["headline"]}
REST = {label: shape for label, shape in LARGE.items() if label != "headline"}
