"""Small convolutions on which the emulated form of the conv2d variants is judged.

    python benchmarks/conv2d/assemble.py OUT --emulated
    kernel-harness grade OUT/conv2d.py --problem benchmarks/conv2d/emulated_cases.py --no-clock

Every case is as small as reaches its branch: several tiles of maps or pixels, several chunks,
phases of a stride, taps that lie in the padding. For fp32, set ``TF32`` to ``"forbidden"``.
It takes minutes, and KERNEL_HARNESS_CALL_SECONDS=600.

Does not: have a headline worth clocking.
"""

import torch
from torch import nn


class Model(nn.Module):
    """A convolution with everything that nn.Conv2d offers, but zeros alone as padding."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        groups=1,
        bias=False,
    ):
        super().__init__()
        self.conv2d = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )

    def forward(self, x):
        """Convolve."""
        return self.conv2d(x)


def get_inputs():
    return [torch.rand(1, 8, 20, 22)]


def get_init_inputs():
    return [8, 16, (3, 3)]


def _case(shape, filters, kernel, **more):
    arguments = {"in_channels": shape[1], "out_channels": filters, "kernel_size": kernel, **more}
    return arguments, [shape]


TF32 = "allowed"
GRADIENTS = "required"
CASES = {
    "small57": _case((2, 12, 13, 17), 20, (5, 7)),
    "tall": _case((1, 8, 9, 11), 72, (3, 3), padding=(1, 1)),
    "chunks": _case((1, 72, 5, 9), 20, (3, 3), padding=(1, 1), bias=True),
    "tiles57": _case((4, 8, 35, 37), 16, (5, 7), padding=(2, 3)),
    "stride2": _case((2, 8, 15, 18), 10, (3, 3), stride=(2, 2), padding=(1, 1)),
    "tall_s2": _case((2, 8, 11, 13), 72, (3, 3), stride=(2, 2), padding=(1, 1)),
    "stride3dil": _case((2, 8, 17, 19), 10, (3, 2), stride=(3, 2), padding=(2, 1), dilation=(2, 3)),
    "dil": _case((3, 8, 13, 15), 9, (3, 3), dilation=(2, 3), padding=(2, 4)),
    "groups": _case((2, 16, 10, 9), 24, (3, 3), groups=2, bias=True),
    "one": _case((3, 40, 7, 5), 19, (1, 1)),
    "one_s2": _case((1, 136, 6, 6), 10, (1, 1), stride=(2, 2)),
    "k59": _case((2, 9, 12, 14), 66, (5, 9), padding=(2, 4), dilation=(2, 3)),
}
CPU_HEADLINE = "small57"
