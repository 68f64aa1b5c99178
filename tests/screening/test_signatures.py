"""ModelNew must accept every call that the reference accepts."""

# ruff: noqa: E501  (candidates are written as one-line strings)

from __future__ import annotations

import pytest

from harness.errors import ProblemError
from harness.records import Severity
from harness.screening import Parameter, Signature, screen, signature_of

REFERENCE = """
import torch.nn as nn
class Model(nn.Module):
    def __init__(self, a, b: tuple = (1, 1), *, c=None):
        super().__init__()
    def forward(self, x, mask=None):
        return x
"""


def severities(init: str, forward: str, rule: str) -> list[Severity]:
    code = (
        "import torch.nn as nn\nclass ModelNew(nn.Module):\n"
        f"    def __init__({init}):\n        super().__init__()\n"
        f"    def forward({forward}):\n        return x\n"
    )
    findings = screen(code, signature_of(REFERENCE)).findings
    return [f.severity for f in findings if f.rule == rule]


def test_a_signature_is_read_from_the_text() -> None:
    assert signature_of(REFERENCE) == Signature(
        init=(
            Parameter("a", "positional"),
            Parameter("b", "positional", True, "(1, 1)"),
            Parameter("c", "keyword_only", True, "None"),
        ),
        forward=(Parameter("x", "positional"), Parameter("mask", "positional", True, "None")),
    )


@pytest.mark.parametrize("source", ["x = = 1", "x = 1", "class Model:\n    pass", "\x00"])
def test_a_reference_without_a_model_is_a_problem_error(source: str) -> None:
    with pytest.raises(ProblemError):
        signature_of(source)


INIT = "self, a, b=(1, 1), *, c=None"
FORWARD = "self, x, mask=None"
E, W = Severity.ERROR, Severity.WARNING


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (INIT, []),
        ("self, a, b=(1,  1), tile=32, *, c=None, d=2", []),
        ("self, *args, **kwargs", []),
        ("self, a, *args, **kwargs", []),
        ("self, a, b=DEFAULT, c=None", []),
        ("self, a, b=(1, 1)", [E]),
        ("self, a, *, c=None", [E]),
        ("self", [E, E, E]),
        ("self, a, *, b=(1, 1), c=None", [E]),
        ("self, a, b, *, c=None", [E]),
        ("self, a, b=(1, 1), *, c", [E]),
        ("self, a, b=(1, 1), *, tile, c=None", [E]),
        ("self, a, tile, b=(1, 1), *, c=None", [W, E]),
        ("self, a, b=(2, 2), *, c=None", [W]),
        ("self, a, other=(1, 1), *, c=None", [W]),
    ],
)
def test_constructor_parameters(init: str, expected: list[Severity]) -> None:
    assert sorted(severities(init, FORWARD, "R03")) == sorted(expected)


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (FORWARD, []),
        ("self, x, mask=None, extra=1", []),
        ("self, *x", []),
        ("self, x", [E]),
        ("self, x, mask", [E]),
        ("self, x, mask=None, *, extra", [E]),
        ("self, y, mask=None", [W]),
    ],
)
def test_forward_parameters(forward: str, expected: list[Severity]) -> None:
    assert severities(INIT, forward, "R01") == expected


BODY = "import torch.nn as nn\nclass Base(nn.Module):\n    def __init__(self, a, b=(1, 1), *, c=None):\n        super().__init__()\n    def forward(self, x, mask=None):\n        return x\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (BODY + "class ModelNew(Base):\n    pass\n", []),
        ("import torch.nn as nn\nclass ModelNew(nn.Module):\n    pass\n", ["R01", "R03"]),
        (
            "import torch.nn as nn\nclass ModelNew(nn.Module):\n    forward = lambda self, x: x\n",
            ["R03"],
        ),
        ("import torch.nn as nn\nclass ModelNew(nn.Conv2d):\n    pass\n", []),
        ("from x import Base\nclass ModelNew(Base):\n    pass\n", []),
    ],
)
def test_inherited_parts_are_followed_as_far_as_they_can_be_seen(
    code: str, expected: list[str]
) -> None:
    findings = screen(code, signature_of(REFERENCE)).errors
    assert sorted(f.rule for f in findings if f.rule in ("R01", "R03")) == expected


def test_without_a_reference_signatures_are_left_out() -> None:
    code = BODY.replace("Base", "ModelNew").replace("a, b", "z, b")
    assert not [f for f in screen(code, None).findings if f.rule in ("R01", "R03")]
