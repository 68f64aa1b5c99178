"""PyTorch's own compute operators in the compute path are warnings, never errors."""

from __future__ import annotations

import pytest

from harness.records import Severity

from .candidates import changed, errors, found, line_of, place, with_line

APPLY = "        return Square.apply(x)\n"


def forward(body: str) -> str:
    rows = "".join(f"        {row}\n" for row in body.split("\n"))
    return changed(
        (APPLY, rows),
        ("import torch.nn as nn\n", "import torch.nn as nn\nimport torch.nn.functional as F\n"),
    )


@pytest.mark.parametrize(
    "expression",
    [
        "F.conv2d(x, self.scale)",
        "torch.matmul(x, x)",
        "x @ x",
        "torch.mm(x, x)",
        "x.matmul(x)",
        "torch.nn.functional.softmax(x)",
        "torch.einsum('ij->i', x)",
        "F.relu(Square.apply(x))",
        "torch.ops.aten.mm(x, x)",
        "x.contiguous().bmm(x)",
    ],
)
def test_a_library_operator_in_forward_is_a_warning_on_its_line(expression: str) -> None:
    code = forward(f"y = {expression}\nreturn y")
    (finding,) = found(code, "R04")
    assert finding.severity is Severity.WARNING
    assert place(finding) == line_of(code, f"y = {expression}")
    assert errors(code) == []


@pytest.mark.parametrize(
    "body",
    [
        "return square_extension.matmul(x, x)",
        "return torch.empty_like(x)",
        "return x.view(-1).contiguous()",
        "# F.conv2d(x)\nreturn Square.apply(x)",
        "return Square.apply(x.transpose(0, 1))",
        "self.cache.relu(x)\nreturn Square.apply(x)",
    ],
)
def test_what_is_no_library_operator_is_not_flagged(body: str) -> None:
    assert found(forward(body), "R04") == []


def test_library_operators_outside_the_compute_path_are_not_flagged() -> None:
    assert found(with_line("def unused(x):\n    return torch.mm(x, x)"), "R04") == []


def test_a_fallback_to_the_library_is_named_as_one() -> None:
    code = forward(
        "try:\n    return Square.apply(x)\nexcept RuntimeError:\n    return torch.mm(x, x)"
    )
    (finding,) = found(code, "R04")
    assert "falls back" in finding.message
    assert place(finding) == line_of(code, "return torch.mm")


def test_calling_a_layer_is_a_warning_but_reading_its_weight_is_not() -> None:
    layer = ("        self.scale =", "        self.conv = nn.Conv2d(3, 3, 3)\n        self.scale =")
    calling = changed(layer, (APPLY, "        return self.conv(x)\n"))
    reading = changed(layer, (APPLY, "        return Square.apply(self.conv.weight)\n"))
    assert [f.severity for f in found(calling, "R04")] == [Severity.WARNING]
    assert found(reading, "R04") == []


def test_work_in_the_backward_counts_too() -> None:
    code = changed(
        (
            "        (x,) = ctx.saved_tensors\n",
            "        (x,) = ctx.saved_tensors\n        x = torch.mm(x, x)\n",
        )
    )
    assert [f.severity for f in found(code, "R04")] == [Severity.WARNING]
