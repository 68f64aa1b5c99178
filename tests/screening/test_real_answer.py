"""The real answer's flaws are all found, each on its own line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.extract import extract
from harness.records import Severity
from harness.screening import screen, signature_of

ANSWER = Path(__file__).parent.parent / "data" / "real_answer_conv2d.txt"
REFERENCE = """
import torch.nn as nn
class Model(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple,
                 stride: tuple = (1, 1), padding: tuple = (0, 0), dilation: tuple = (1, 1),
                 groups: int = 1, bias: bool = False):
        super().__init__()
    def forward(self, x):
        return x
"""

FLAWS = [
    ("R09", Severity.ERROR, "a=math.sqrt(5)", "math"),
    ("build.undeclared_function", Severity.ERROR, "functions=['conv2d_forward']", "conv2d_forward"),
    ("R06", Severity.ERROR, "output = CustomConv2dFunction.apply(", "without end"),
    ("screen.block_size", Severity.WARNING, "dim3 threads(out_width, out_height);", "1,024"),
    ("screen.launch_check", Severity.WARNING, "<<<blocks, threads>>>", "launch"),
    ("screen.stream", Severity.NOTE, "<<<blocks, threads>>>", "default stream"),
    ("screen.synchronize", Severity.NOTE, "cudaDeviceSynchronize();", "waits"),
]


@pytest.mark.parametrize(("rule", "severity", "part", "word"), FLAWS)
def test_each_flaw_is_found_on_its_line(
    rule: str, severity: Severity, part: str, word: str
) -> None:
    candidate = extract(ANSWER.read_text()).candidate
    assert candidate is not None
    screening = screen(candidate, signature_of(REFERENCE))
    (finding,) = [f for f in screening.findings if f.rule == rule and word in f.message]
    assert finding.severity is severity
    assert finding.place is not None
    assert part in candidate.split("\n")[finding.place.line - 1]


def test_nothing_else_is_an_error() -> None:
    candidate = extract(ANSWER.read_text()).candidate
    assert candidate is not None
    screening = screen(candidate, signature_of(REFERENCE))
    assert len(screening.errors) == 3
    assert screening.kernels == ("conv2d_forward_kernel",)
