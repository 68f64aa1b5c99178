"""How load_inline is called: what its generated bindings need."""

# ruff: noqa: E501  (candidates are written as one-line strings)

from __future__ import annotations

import pytest

from harness.records import Severity

from .candidates import changed, errors, found, line_of, place, screened

UNDECLARED = "build.undeclared_function"
DECLARATION = "torch::Tensor square_forward(torch::Tensor x);\n"


@pytest.mark.parametrize(
    "pair",
    [
        (DECLARATION, ""),
        (DECLARATION, "// " + DECLARATION),
        ("cpp_sources=cpp_source", 'cpp_sources=""'),
        ('"square_forward", ', '\n        "square_forwards",\n        '),
    ],
)
def test_a_bound_function_that_cpp_sources_does_not_declare_is_an_error(
    pair: tuple[str, str],
) -> None:
    code = changed(pair)
    findings = found(code, UNDECLARED)
    assert findings and all(f.severity is Severity.ERROR for f in findings)
    assert "square_forward" in code.split("\n")[place(findings[0]) - 1]


@pytest.mark.parametrize(
    "declared",
    [
        '#include "square.h"\n',
        "#define DECLARE(n) torch::Tensor square_##n(torch::Tensor x);\nDECLARE(forward)\n",
        "using namespace operators;\n",
    ],
)
def test_what_may_be_declared_elsewhere_is_a_warning(declared: str) -> None:
    code = changed((DECLARATION, declared))
    assert [f.severity for f in found(code, UNDECLARED)] == [Severity.WARNING]


@pytest.mark.parametrize(
    "pair",
    [
        (DECLARATION, "torch::Tensor square_forward(\n    torch::Tensor x\n);\n"),
        (DECLARATION, "auto square_forward = [](torch::Tensor x) { return x; };\n"),
        (DECLARATION, "#define FN square_forward\ntorch::Tensor FN(torch::Tensor);\n"),
        ('functions=["square_forward", "square_backward"]', "functions=[n for n in NAMES]"),
        ('    functions=["square_forward", "square_backward"],\n', ""),
    ],
)
def test_declared_or_unknown_functions_are_not_flagged(pair: tuple[str, str]) -> None:
    assert found("NAMES = []\n" + changed(pair), UNDECLARED) == []


def test_load_inline_without_cpp_sources_is_an_error() -> None:
    code = changed(("    cpp_sources=cpp_source,\n", ""))
    assert "build.arguments" in [f.rule for f in errors(code)]
    assert place(found(code, "build.arguments")[0]) == line_of(code, "load_inline(")


def test_positional_arguments_are_understood() -> None:
    code = changed(
        (
            '    name="square",\n    cpp_sources=cpp_source,\n    cuda_sources=cuda_source,\n',
            '    "square", cpp_source, cuda_source,\n',
        )
    )
    assert screened(code).findings == ()


def test_arguments_that_are_unpacked_are_left_alone() -> None:
    code = changed(("    cpp_sources=cpp_source,\n", "    **{'cpp_sources': cpp_source},\n"))
    assert errors(code) == []


def test_an_extension_that_binds_nothing_is_a_warning() -> None:
    code = changed(('    functions=["square_forward", "square_backward"],\n', ""))
    assert [f.severity for f in found(code, "build.nothing_bound")] == [Severity.WARNING]


def test_an_extension_that_binds_by_hand_is_honest() -> None:
    code = changed(
        ('    functions=["square_forward", "square_backward"],\n', ""),
        (
            "torch::Tensor square_backward(torch::Tensor grad, torch::Tensor x);\n",
            'torch::Tensor square_backward(torch::Tensor grad, torch::Tensor x);\nPYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("f", &square_forward); }\n',
        ),
    )
    assert screened(code).findings == ()
