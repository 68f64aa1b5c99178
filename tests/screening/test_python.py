"""Syntax, ModelNew, imports, leftovers: what is flagged, how heavily, and where."""

# ruff: noqa: E501  (candidates are written as one-line strings)

from __future__ import annotations

import pytest

from harness.records import Severity

from .candidates import HONEST, changed, errors, found, line_of, place, screened, with_line

FORWARD = "        return Square.apply(x)\n"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import torch\nclass ModelNew(:\n    pass\n", 2),
        ("def f(:\n", 1),
        ("x = 1\nreturn x\n", 2),
        ('x = """\nnever closed\n', 1),
        ("if True:\nx = 1\n", 2),
    ],
)
def test_a_syntax_error_is_the_only_finding_and_has_its_place(code: str, line: int) -> None:
    screening = screened(code)
    assert not screening.syntax_ok
    (finding,) = screening.findings
    assert (finding.rule, finding.severity, place(finding)) == ("R09", Severity.ERROR, line)
    assert finding.place is not None and finding.place.column is not None


@pytest.mark.parametrize(
    "code",
    [
        changed(("class ModelNew", "class Network")),
        changed(("class ModelNew", "class Model_New")),
        changed(
            ("class ModelNew(nn.Module)", "def make():\n  class ModelNew(nn.Module)"),
            (
                "    def __init__(self, size, scale=1.0):\n        super().__init__()\n        self.scale = nn.Parameter(torch.full((size,), math.sqrt(scale)))\n\n    def forward(self, x):\n        return Square.apply(x)\n",
                "    pass\n",
            ),
        ),
        changed(("class ModelNew", "# class ModelNew\nclass Network")),
        changed(("class ModelNew(nn.Module)", "ModelNew = None\nclass Network(nn.Module)")),
        "import torch\ndef ModelNew(x):\n    return x\n",
    ],
)
def test_without_a_class_model_new_at_module_level_it_is_an_error(code: str) -> None:
    assert [f.rule for f in errors(code)].count("R11") == 1


@pytest.mark.parametrize(
    "code",
    [
        changed(("class ModelNew", "class Network")) + "ModelNew = Network\n",
        changed(
            ("class ModelNew(nn.Module)", "if True:\n  class ModelNew(nn.Module)"),
            (
                "    def __init__(self, size, scale=1.0):\n        super().__init__()\n        self.scale = nn.Parameter(torch.full((size,), math.sqrt(scale)))\n\n    def forward(self, x):\n        return Square.apply(x)\n",
                "    def __init__(self, size, scale=1.0): super().__init__()\n    def forward(self, x): return Square.apply(x)\n",
            ),
        ),
        changed(("class ModelNew", "class Network"))
        + "ModelNew = torch.compiler.disable(Network)\n",
    ],
)
def test_model_new_may_be_bound_in_other_ways(code: str) -> None:
    assert errors(code) == []


@pytest.mark.parametrize("bases", ["", "(object)", "(torch.autograd.Function)", "(Helper)"])
def test_a_model_new_that_is_no_module_is_an_error(bases: str) -> None:
    code = "class Helper:\n    pass\n" + changed(
        ("class ModelNew(nn.Module)", f"class ModelNew{bases}")
    )
    assert "R01" in [f.rule for f in errors("import torch\n" + code)]


@pytest.mark.parametrize(
    "bases", ["torch.nn.Module", "nn.Conv2d", "nn.modules.Module", "Unknown.Module"]
)
def test_a_base_that_may_be_a_module_is_no_error(bases: str) -> None:
    code = changed(("class ModelNew(nn.Module)", f"class ModelNew({bases})"))
    assert "R01" not in [f.rule for f in errors(code)]


def test_deriving_from_the_reference_is_an_error() -> None:
    code = changed(("class ModelNew(nn.Module)", "class ModelNew(Model)"))
    (finding,) = found(code, "R01")
    assert finding.severity is Severity.ERROR
    assert place(finding) == line_of(code, "class ModelNew(Model)")


def test_delegating_to_the_reference_is_an_error() -> None:
    code = changed(
        ("        self.scale =", "        self.inner = Model(size)\n        self.scale =")
    )
    assert "R01" in [f.rule for f in errors(code)]


def test_building_on_an_own_class_of_that_name_is_a_warning() -> None:
    code = changed(
        (
            "class ModelNew(nn.Module)",
            "class Model(nn.Module):\n    pass\n\n\nclass ModelNew(Model)",
        )
    )
    assert [f.severity for f in found(code, "R01")] == [Severity.WARNING]


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ("import cupy", Severity.ERROR),
        ("from einops import rearrange", Severity.ERROR),
        ("import torchvision.ops as ops", Severity.ERROR),
        ("from reference import helper", Severity.ERROR),
        ("from . import sibling", Severity.ERROR),
        ("import triton", Severity.WARNING),
        ("import triton.language as tl", Severity.WARNING),
        ("import numpy as np", Severity.WARNING),
        ("import setuptools", Severity.WARNING),
        ("try:\n    import cupy\nexcept ImportError:\n    cupy = None", Severity.WARNING),
        ("def lazily():\n    import cupy\n    return cupy", Severity.WARNING),
    ],
)
def test_third_party_imports_are_flagged(line: str, severity: Severity) -> None:
    assert [f.severity for f in found(with_line(line), "R08")] == [severity]


@pytest.mark.parametrize(
    "line",
    [
        "import os, sys, ctypes",
        "from torch.nn import functional as F",
        "import torch.cuda.amp",
        "from torch.autograd import Function",
        "import concurrent.futures",
    ],
)
def test_torch_and_the_standard_library_may_be_imported(line: str) -> None:
    assert found(with_line(line), "R08") == []


def test_numpy_that_computes_is_an_error() -> None:
    code = changed(
        ("import math\n", "import math\nimport numpy as np\n"),
        (FORWARD, "        return torch.from_numpy(np.square(x.numpy()))\n"),
    )
    assert [f.severity for f in found(code, "R08")] == [Severity.ERROR]


@pytest.mark.parametrize(
    "line",
    [
        "print('x')",
        "def helper():\n    print()",
        "breakpoint()",
        "import pdb\npdb.set_trace()",
        "if __name__ == '__main__':\n    ModelNew(1)",
    ],
)
def test_leftovers_are_warnings(line: str) -> None:
    findings = found(with_line(line), "R10")
    assert [f.severity for f in findings] == [Severity.WARNING]
    assert place(findings[0]) > line_of(HONEST, "class ModelNew")


def test_a_function_of_its_own_named_print_is_no_leftover() -> None:
    assert found(with_line("def print(x):\n    return x\nprint(1)"), "R10") == []


def test_verbose_builds_are_noted() -> None:
    code = changed(('    name="square",\n', '    name="square",\n    verbose=True,\n'))
    (finding,) = found(code, "R10")
    assert finding.severity is Severity.NOTE
    assert place(finding) == line_of(code, "verbose=True")
