"""Undefined names: errors where they certainly stop the candidate, warnings elsewhere."""

# ruff: noqa: E501  (candidates are written as one-line strings)

from __future__ import annotations

import ast

import pytest

from harness.records import Severity
from harness.screening._scopes import find_undefined

from .candidates import changed, errors, found, line_of, place, with_line

APPLY = "        return Square.apply(x)\n"


def names(code: str) -> list[str]:
    return [use.name for use in find_undefined(ast.parse(code)).undefined]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("f(1)", ["f"]),
        ("x: T = 1", ["T"]),
        ("def f(a: T) -> U: pass", ["T", "U"]),
        ("from __future__ import annotations\ndef f(a: T) -> U: pass", []),
        ("from __future__ import annotations\nx: T = 1", []),
        ("def f():\n    x: T = 1", []),
        ("def f(a=b): pass", ["b"]),
        ("@decorate\ndef f(): pass", ["decorate"]),
        ("class A(Base, metaclass=M): pass", ["Base", "M"]),
        ("class A:\n    k = 1\n    def f(self):\n        return k", ["k"]),
        ("class A:\n    k = 1\n    r = [k for _ in range(3)]", ["k"]),
        ("class A:\n    k = [1]\n    r = [x for x in k]", []),
        ("[x for x in xs if y]", ["xs", "y"]),
        ("[x for x in []]\nx", ["x"]),
        ("[y := 1 for _ in []]\ny", []),
        ("lambda a, *b, c=d, **e: (a, b, c, e, f)", ["d", "f"]),
        ("def f():\n    def g():\n        return h\n    h = 1\n    return g", []),
        ("def f():\n    h = 1\ndef g():\n    return h", ["h"]),
        ("def f():\n    global h\n    h = 1\ndef g():\n    return h", []),
        ("try:\n    pass\nexcept E as e:\n    e", ["E"]),
        (
            "match a:\n    case B(c=d, e=[f, *g]) | {'h': i, **j}:\n        (d, f, g, i, j)",
            ["a", "B"],
        ),
        ("x += 1", []),
        ("del x", []),
        ("f'{a} {b:{c}}'", ["a", "b", "c"]),
        ("print(__file__, __name__, __builtins__)", []),
        ("class A:\n    def f(self):\n        return __class__", []),
        ("y = x\nx = 1", ["x"]),
        ("def f():\n    return x\nx = 1", []),
        ("class A:\n    y = x\nx = 1", ["x"]),
        ("for i in []:\n    pass\nelse:\n    i", []),
        ("import a.b.c\na.b", []),
        ("import a.b as c\na", ["a"]),
    ],
)
def test_scoping_follows_python(code: str, expected: list[str]) -> None:
    assert names(code) == expected


@pytest.mark.parametrize("node", ["type X[T] = list[T]", "def f[T](a: T) -> T: return a"])
def test_type_parameters_are_names(node: str) -> None:
    try:
        ast.parse(node)
    except SyntaxError:
        pytest.skip("this Python has no type parameters")
    assert names(node) == []


CERTAIN = {
    "at module level": lambda: with_line("undefined_here()"),
    "in the constructor": lambda: changed(("import math\n", "")),
    "in forward": lambda: changed((APPLY, "        return Square.apply(undefined_here)\n")),
    "in a Function's forward": lambda: changed(
        ("        x = x.contiguous()\n", "        x = undefined_here(x)\n")
    ),
    "in a Function's backward": lambda: changed(
        ("(x,) = ctx.saved_tensors", "(x,) = undefined_here")
    ),
    "in a function that forward calls": lambda: changed(
        (APPLY, "        return helper(x)\n\n\ndef helper(x):\n    return undefined_here(x)\n")
    ),
    "in a method that forward calls": lambda: changed(
        (
            APPLY,
            "        return self.step(x)\n\n    def step(self, x):\n        return undefined_here(x)\n",
        )
    ),
    "behind an alias of apply": lambda: changed(
        (APPLY, "        return square(x)\n\n\nsquare = Square.apply\n"),
        ("(x,) = ctx.saved_tensors", "(x,) = undefined_here"),
    ),
    "in an annotation": lambda: changed(
        ("def forward(self, x):", "def forward(self, x: Tensor) -> Tensor:")
    ),
}


@pytest.mark.parametrize("make", CERTAIN.values(), ids=CERTAIN)
def test_a_name_that_is_certainly_missing_is_an_error(make: object) -> None:
    code = make()  # type: ignore[operator]
    found_errors = errors(code)
    assert [f.rule for f in found_errors] == ["R09"]
    assert found_errors[0].place is not None and found_errors[0].place.column is not None


DOUBTFUL = {
    "star import": lambda: "from os.path import *\n" + with_line("undefined_here()"),
    "exec": lambda: with_line("exec('undefined_here = 1')\nundefined_here"),
    "globals()": lambda: with_line("globals()['undefined_here'] = 1\nundefined_here"),
    "unreached function": lambda: with_line("def unused():\n    return undefined_here"),
    "a branch": lambda: changed(
        (APPLY, "        if x.is_cpu:\n            return undefined_here(x)\n" + APPLY)
    ),
    "after an early return": lambda: changed(
        (APPLY, "        if x.is_cuda:\n    " + APPLY + "        return undefined_here(x)\n")
    ),
    "guarded by except": lambda: with_line("try:\n    undefined_here\nexcept NameError:\n    pass"),
    "a lambda": lambda: with_line("later = lambda: undefined_here"),
    "test code": lambda: with_line("if __name__ == '__main__':\n    undefined_here()"),
    "a conditional expression": lambda: with_line("N = 1 if torch else undefined_here"),
}


@pytest.mark.parametrize("make", DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_name_that_may_never_be_read_is_a_warning(make: object) -> None:
    code = make()  # type: ignore[operator]
    assert errors(code) == []
    assert [f.severity for f in found(code, "R09")] == [Severity.WARNING]


def test_each_name_is_reported_once_at_its_first_certain_use() -> None:
    code = changed(
        ("import math\n", ""),
        ("        return Square.apply(x)", "        math.pi\n        return Square.apply(x)"),
    )
    (finding,) = found(code, "R09")
    assert place(finding) == line_of(code, "math.sqrt")
    assert f"line {line_of(code, 'math.pi')}" in finding.message
    assert finding.advice == "Add `import math`."
