"""Honest files are never errors, whatever words they use and however they are written."""

# ruff: noqa: E501  (candidates are written as one-line strings)

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.screening import RULES, screen

from .candidates import HONEST, changed, errors, screened, with_line


def test_the_honest_candidate_has_no_findings_at_all() -> None:
    screening = screened(HONEST)
    assert screening.findings == ()
    assert screening.syntax_ok and screening.uses_cuda and screening.has_backward
    assert screening.functions == ("square_forward", "square_backward")
    assert screening.kernels == ("square_forward_kernel", "square_backward_kernel")
    assert screening.extensions == 1


HONEST_LINES = {
    "words in a comment": "# try: pass, stream, print(x), import numpy, exec, Model, __global__",
    "words in a string": 'NOTE = "try pass stream print( import numpy class Model <<< torch.mm("',
    "a docstring": 'def helper():\n    """print(x); import cupy; pass"""\n    return None',
    "try and pass": "try:\n    import not_there\nexcept ImportError:\n    pass",
    "nested functions": "def outer():\n    a = 1\n    def inner():\n        return a\n    return inner()\nouter()",
    "nonlocal": "def outer():\n    a = 1\n    def inner():\n        nonlocal a\n        a += 1\n    inner()\n    return a\nouter()",
    "global": "def setter():\n    global made\n    made = 1\ndef getter():\n    return made\nsetter()\ngetter()",
    "comprehensions": "A = [i + j for i in range(3) for j in range(i) if (i, j)]\nB = {k: v for k, v in zip(A, A)}\nC = {x for x in A}\nD = sum(x for x in A)",
    "a class-level name": "class Config:\n    width = 3\n    double = width * 2\n    rows = [x for x in range(width)]\nConfig()",
    "lambda": "pick = lambda a, *b, c=1, **d: (a, b, c, d)\npick(1)",
    "walrus": "if (count := 10) > 5:\n    TOTAL = count\nE = [last := i for i in range(3)]\nF_ = last",
    "match": "def kind(x):\n    match x:\n        case {'a': a, **rest}:\n            return a, rest\n        case [first, *others]:\n            return first, others\n        case int() as n:\n            return n\n        case other:\n            return other\nkind(1)",
    "decorators": "import functools\n@functools.lru_cache(maxsize=None)\ndef cached(n):\n    return n\ncached(1)",
    "dunder names": "HERE = (__file__, __name__, __doc__, __spec__, __builtins__)",
    "builtins": "G = (len, print, Exception, NotImplementedError, isinstance, memoryview, Ellipsis)",
    "except as": "try:\n    H = 1\nexcept (ValueError, TypeError) as error:\n    raise RuntimeError(str(error)) from error",
    "del": "temporary = 1\ndel temporary",
    "star arguments": "def many(*args, **kwargs):\n    return [*args], {**kwargs}\nmany()",
    "conditional import": "import sys\nif sys.version_info >= (3, 11):\n    import tomllib\nelse:\n    tomllib = None\nprint_it = tomllib",
    "with and for": "import contextlib\nwith contextlib.suppress(OSError) as s:\n    pass\nfor i, (a, b) in enumerate([]):\n    I = (i, a, b, s)",
    "star assignment": "first, *rest = [1, 2]\nJ = (first, rest)",
    "annotated names": "from typing import Optional\nwidth: Optional[int] = None\nheight: int\ndef f(a: Optional[int] = None) -> Optional[int]:\n    local: NotEvaluated = a\n    return local\nf()",
    "class in its own method": "class Node:\n    def copy(self):\n        return __class__(), Node()\nNode().copy()",
    "super and properties": "class Base:\n    @property\n    def size(self):\n        return 1\n    @size.setter\n    def size(self, value):\n        self._size = value\nBase()",
    "defined later": "def early():\n    return LATER\nLATER = 1\nearly()",
    "loop variable afterwards": "for step in range(3):\n    pass\nK = step",
    "type checking import": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from collections.abc import Callable",
    "assert and f-string": "L = 2\nassert L, f'{L!r:>{L}} {L=}'",
    "generator and yield": "def numbers():\n    got = yield 1\n    yield from [got]\nnumbers()",
    "async": "async def go():\n    async with x() as y:\n        return [z async for z in y]\ndef x(): return None",
    "global from a class": "class Holder:\n    global shared\n    shared = 1\nM = shared",
    "numpy beside the work": "import numpy as np\nSEED = np.int64(1)",
    "the original's inputs": "def get_inputs():\n    return [torch.rand(4)]\ndef get_init_inputs():\n    return [4]",
    "a print and test code": "if __name__ == '__main__':\n    print(ModelNew(3)(undefined_here))",
}


@pytest.mark.parametrize("line", HONEST_LINES.values(), ids=HONEST_LINES)
def test_honest_lines_are_never_errors(line: str) -> None:
    ast.parse(line)
    assert errors(with_line(line)) == []
    assert errors(line + "\n\n" + HONEST) == []


@pytest.mark.parametrize("line", HONEST_LINES.values(), ids=HONEST_LINES)
def test_honest_lines_are_never_undefined_names_inside_forward(line: str) -> None:
    body = "\n".join("        " + row for row in line.split("\n"))
    code = changed(("        return Square.apply(x)", f"{body}\n        return Square.apply(x)"))
    try:
        compile(code, "candidate", "exec")
    except SyntaxError:
        pytest.skip("not valid inside a function")
    assert [f for f in errors(code) if "undefined_here" not in f.message] == []


VARIANTS = {
    "lazy annotations": ("import math\n", "from __future__ import annotations\nimport math\n"),
    "an aliased module": (
        "from torch.utils.cpp_extension import load_inline",
        "from torch.utils.cpp_extension import load_inline as build\nload_inline = build",
    ),
    "a qualified call": (
        "square_extension = load_inline(",
        "import torch.utils.cpp_extension\nsquare_extension = torch.utils.cpp_extension.load_inline(",
    ),
    "lists of sources": ("cuda_sources=cuda_source", "cuda_sources=[cuda_source]"),
    "stripped sources": ("cuda_sources=cuda_source", "cuda_sources=cuda_source.strip()"),
    "functions as a dict": (
        '["square_forward", "square_backward"]',
        '{"square_forward": "a", "square_backward": "b"}',
    ),
    "a bound alias": ("return Square.apply(x)", "return square(x)\n\nsquare = Square.apply"),
    "ModelNew as an alias": ("class ModelNew(nn.Module)", "class Net(nn.Module)"),
    "an own base class": (
        "class ModelNew(nn.Module):",
        "class Base(nn.Module):\n    def train_it(self):\n        return self.train()\n\nclass ModelNew(Base):",
    ),
    "further parameters": (
        "def __init__(self, size, scale=1.0):",
        "def __init__(self, size, scale=1.0, tile=16, *, fast=True):",
    ),
    "free parameters": (
        "def forward(self, x):\n        return Square",
        "def forward(self, *args, **kwargs):\n        x = args[0]\n        return Square",
    ),
    "an unknown decorator": (
        "    def forward(self, x):\n        return Square",
        "    @torch.compiler.disable\n    def forward(self):\n        x = None\n        return Square",
    ),
    "unresolvable source": ("cpp_sources=cpp_source", "cpp_sources=open(__file__).read()"),
    "declared by a macro": (
        "torch::Tensor square_forward(torch::Tensor x);",
        "#define DECLARE(n) torch::Tensor n##_forward(torch::Tensor x);\nDECLARE(square)",
    ),
    "a reflecting apply": (
        "return square_extension.square_backward(grad_output.contiguous(), x)",
        "return Square.apply(grad_output)",
    ),
}


@pytest.mark.parametrize("pair", VARIANTS.values(), ids=VARIANTS)
def test_honest_variants_are_never_errors(pair: tuple[str, str]) -> None:
    code = changed(pair)
    if "class Net" in code:
        code += "\n\nModelNew = Net\n"
    assert errors(code) == []


def test_building_inside_a_function_or_a_constructor_is_followed() -> None:
    code = changed(
        ("square_extension = load_inline(", "def build():\n    return load_inline("),
        ("\n\nclass Square(", "\n\nsquare_extension = build()\n\n\nclass Square("),
    )
    assert screened(code).findings == ()
    assert screened(code).functions == ("square_forward", "square_backward")


def test_every_rule_has_an_id_a_title_and_a_text() -> None:
    assert [rule.id for rule in RULES] == [f"R{n:02}" for n in range(1, 13)]
    assert all(rule.title and rule.text.endswith(".") for rule in RULES)


def test_every_finding_says_what_to_do() -> None:
    code = changed(("C10_CUDA_KERNEL_LAUNCH_CHECK();", ""), ("import math\n", "import cupy\n"))
    for finding in screened(code).findings:
        assert finding.advice and finding.message.endswith(".")


def test_findings_come_errors_first_and_then_by_line() -> None:
    code = changed(("C10_CUDA_KERNEL_LAUNCH_CHECK();", ""), ("import math\n", "print(1)\n"))
    found = screened(code).findings
    keys = [(f.severity != "error", f.severity == "note", f.place.line) for f in found if f.place]
    assert keys == sorted(keys)
    assert found[0].severity == "error"


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(HONEST)), st.integers(0, 40), st.sampled_from(["", "(", '"', "\x00", "{"])
)
def test_no_damage_makes_screening_raise(at: int, length: int, put: str) -> None:
    screened(HONEST[:at] + put + HONEST[at + length :])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_no_text_makes_screening_raise(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    screen(text, None)
    screen(HONEST.replace("return y;", text.replace("\\", "")), None)


def test_deep_nesting_does_not_make_screening_raise() -> None:
    for code in (
        "x = " + "+".join(["'a'"] * 5000),
        "x = " + "(" * 500 + ")" * 500,
        "a" + ".b" * 5000,
    ):
        screen(code, None)
        screen(HONEST + code, None)
