"""2D convolution with a rectangular kernel on a rectangular image.

KernelBench's level 1 problem 56 with its whole constructor in play: the headline is the plain
5x7 convolution of eight 512x256 images, the cases add stride, padding, dilation, groups and bias.
One forward of the headline is 583 GFLOP over 0.77 GB, so arithmetic decides.
TF32 is allowed, because PyTorch lets float32 convolutions use it by default.
"""

import torch
import torch.nn as nn


class Model(nn.Module):
    """
    Convolves an image with a bank of filters.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, one per filter.
        kernel_size: Height and width of the filters.
        stride: Rows and columns between neighbouring windows.
        padding: Rows and columns of zeros on either side of the image.
        dilation: Rows and columns between neighbouring taps of a filter.
        groups: Number of blocks of channels that do not see each other.
        bias: Whether every output channel has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple,
        stride: tuple = (1, 1),
        padding: tuple = (0, 0),
        dilation: tuple = (1, 1),
        groups: int = 1,
        bias: bool = False,
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: Images of shape (batch, in_channels, height, width).

        Returns:
            Feature maps of shape (batch, out_channels, out_height, out_width).
        """
        return self.conv2d(x)


batch_size = 8
in_channels = 64
out_channels = 128
kernel_size = (5, 7)
height = 512
width = 256


def get_inputs():
    x = torch.rand(batch_size, in_channels, height, width)
    return [x]


def get_init_inputs():
    return [in_channels, out_channels, kernel_size]


TF32 = "allowed"
GRADIENTS = "required"

CASES: dict[str, tuple[dict | list, list]] = {
    "plain": (
        {"in_channels": 3, "out_channels": 5, "kernel_size": (3, 3)},
        [(2, 3, 11, 13)],
    ),
    "asymmetric_kernel": (
        {"in_channels": 4, "out_channels": 7, "kernel_size": (5, 7)},
        [(2, 4, 19, 17)],
    ),
    "pointwise": (
        {"in_channels": 17, "out_channels": 19, "kernel_size": (1, 1)},
        [(3, 17, 7, 5)],
    ),
    "pointwise_single_pixel": (
        {"in_channels": 33, "out_channels": 5, "kernel_size": (1, 1), "bias": True},
        [(1, 33, 1, 1)],
    ),
    "one_channel": (
        {"in_channels": 1, "out_channels": 1, "kernel_size": (3, 2)},
        [(1, 1, 9, 10)],
    ),
    "kernel_as_large_as_the_image": (
        {"in_channels": 3, "out_channels": 4, "kernel_size": (6, 5), "bias": True},
        [(3, 3, 6, 5)],
    ),
    "bias": (
        {"in_channels": 5, "out_channels": 3, "kernel_size": (2, 3), "bias": True},
        [(2, 5, 8, 9)],
    ),
    "stride": (
        {"in_channels": 3, "out_channels": 6, "kernel_size": (3, 5), "stride": (2, 3)},
        [(2, 3, 14, 19)],
    ),
    # No output reads the columns between the windows: their gradient is exactly zero.
    "stride_beyond_the_kernel": (
        {"in_channels": 4, "out_channels": 3, "kernel_size": (2, 1), "stride": (3, 4)},
        [(2, 4, 13, 18)],
    ),
    "padding": (
        {"in_channels": 3, "out_channels": 4, "kernel_size": (3, 5), "padding": (1, 2)},
        [(2, 3, 9, 7)],
    ),
    # Whole windows lie in the padding: the outermost outputs are the bias alone.
    "padding_beyond_the_kernel": (
        {
            "in_channels": 2,
            "out_channels": 3,
            "kernel_size": (3, 2),
            "padding": (4, 3),
            "bias": True,
        },
        [(2, 2, 5, 6)],
    ),
    "dilation": (
        {"in_channels": 3, "out_channels": 5, "kernel_size": (3, 3), "dilation": (2, 3)},
        [(2, 3, 13, 15)],
    ),
    "dilation_stride_padding": (
        {
            "in_channels": 2,
            "out_channels": 3,
            "kernel_size": (3, 2),
            "stride": (3, 2),
            "padding": (2, 1),
            "dilation": (2, 3),
        },
        [(2, 2, 16, 11)],
    ),
    "groups": (
        {"in_channels": 6, "out_channels": 9, "kernel_size": (3, 3), "groups": 3},
        [(2, 6, 10, 9)],
    ),
    "depthwise": (
        {
            "in_channels": 7,
            "out_channels": 7,
            "kernel_size": (3, 3),
            "padding": (1, 1),
            "groups": 7,
        },
        [(2, 7, 8, 11)],
    ),
    "depthwise_multiplier": (
        {"in_channels": 5, "out_channels": 15, "kernel_size": (1, 4), "groups": 5, "bias": True},
        [(1, 5, 6, 12)],
    ),
    "batch_one_tall": (
        {"in_channels": 3, "out_channels": 2, "kernel_size": (7, 1), "padding": (3, 0)},
        [(1, 3, 67, 1)],
    ),
    "channel_tails": (
        {"in_channels": 37, "out_channels": 67, "kernel_size": (3, 3), "padding": (1, 1)},
        [(2, 37, 9, 11)],
    ),
    "all_at_once": (
        {
            "in_channels": 6,
            "out_channels": 10,
            "kernel_size": (2, 5),
            "stride": (3, 2),
            "padding": (1, 4),
            "dilation": (4, 2),
            "groups": 2,
            "bias": True,
        },
        [(3, 6, 17, 23)],
    ),
    "cpu_headline": (
        {"in_channels": 8, "out_channels": 16, "kernel_size": (5, 7)},
        [(2, 8, 36, 38)],
    ),
}
CPU_HEADLINE = "cpu_headline"


def forward_flops(model: Model, x: torch.Tensor) -> int:
    """Multiplications and additions of one forward, those with the padding included."""
    conv = model.conv2d
    operations_per_output = 2 * conv.weight[0].numel() + (conv.bias is not None)
    return operations_per_output * _output_numel(conv, x)


def forward_bytes(model: Model, x: torch.Tensor) -> int:
    """Bytes of one forward that reads image, weight and bias once and writes the output once."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (x.numel() + parameters + _output_numel(model.conv2d, x)) * x.element_size()


def _output_numel(conv: nn.Conv2d, x: torch.Tensor) -> int:
    numel = x.shape[0] * conv.out_channels
    for size, kernel, stride, padding, dilation in zip(
        x.shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation
    ):
        numel *= (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return numel
