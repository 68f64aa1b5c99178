"""The backward: missing, endless, handed back to autograd, or giving nothing."""

# ruff: noqa: E501  (candidates are written as one-line strings)

from __future__ import annotations

import pytest

from harness.records import Severity

from .candidates import HONEST, changed, found, line_of, place, screened

RETURN = "        return square_extension.square_backward(grad_output.contiguous(), x)\n"
DIFFERENTIATE = "torch.autograd.grad(y, x, grad_output)"


def backward(body: str, more: str = "") -> str:
    rows = "".join(f"        {row}\n" for row in body.split("\n"))
    return changed((RETURN, rows)) + more


@pytest.mark.parametrize(
    "code",
    [
        backward(f"y = Square.apply(x)\nreturn {DIFFERENTIATE}"),
        backward("y = Square.apply(x)\ny.backward(grad_output)\nreturn x.grad"),
        backward(f"y = square(x)\nreturn {DIFFERENTIATE}", "\nsquare = Square.apply\n"),
        backward(
            "return helper(x, grad_output)",
            "\ndef helper(x, g):\n    return torch.autograd.grad(Square.apply(x), x, g)\n",
        ),
        backward(f"with torch.enable_grad():\n    y = Square.apply(x)\n    return {DIFFERENTIATE}"),
    ],
)
def test_a_backward_that_runs_itself_again_is_an_error(code: str) -> None:
    (finding,) = found(code, "R06")
    assert finding.severity is Severity.ERROR
    assert "without end" in finding.message


def test_handing_the_work_back_to_autograd_is_an_error() -> None:
    code = backward(f"y = x * x\nreturn {DIFFERENTIATE}")
    (finding,) = found(code, "R06")
    assert (finding.severity, place(finding)) == (Severity.ERROR, line_of(code, DIFFERENTIATE))


@pytest.mark.parametrize(
    "code",
    [
        backward(
            f"if x.is_cpu:\n    y = x * x\n    return {DIFFERENTIATE}\nreturn square_extension.square_backward(grad_output, x)"
        ),
        backward(
            "if torch.is_grad_enabled():\n    return torch.autograd.grad(Square.apply(x), x, grad_output)\nreturn square_extension.square_backward(grad_output, x)"
        ),
        backward("return Square.apply(grad_output)"),
        backward("return None"),
        backward("return None, None"),
    ],
)
def test_what_may_be_right_is_a_warning(code: str) -> None:
    assert [f.severity for f in found(code, "R06")] == [Severity.WARNING]


def test_an_extension_function_named_backward_is_an_honest_one() -> None:
    code = changed(("square_backward(", "backward("), ('"square_backward"', '"backward"'))
    assert found(code, "R06") == []


def test_a_candidate_without_any_backward_is_a_warning() -> None:
    start = HONEST.index("    @staticmethod\n    def backward")
    end = HONEST.index("class ModelNew")
    code = HONEST[:start] + "\n" + HONEST[end:]
    assert [f.severity for f in found(code, "R06")] == [Severity.WARNING]
    assert not screened(code).has_backward


@pytest.mark.parametrize(
    "more",
    ["torch.library.register_autograd('a::b', None)", "OP = torch.library.custom_op"],
)
def test_other_ways_to_give_a_backward_count(more: str) -> None:
    start = HONEST.index("    @staticmethod\n    def backward")
    code = HONEST[:start] + "\n" + HONEST[HONEST.index("class ModelNew") :] + more + "\n"
    assert screened(code).has_backward
    assert found(code, "R06") == []


def test_an_autograd_function_in_cpp_counts() -> None:
    start = HONEST.index("    @staticmethod\n    def backward")
    code = HONEST[:start] + "\n" + HONEST[HONEST.index("class ModelNew") :]
    code = code.replace(
        "torch::Tensor square_forward(torch::Tensor x) {",
        "struct Op : public torch::autograd::Function<Op> {};\n"
        "torch::Tensor square_forward(torch::Tensor x) {",
    )
    assert screened(code).has_backward
