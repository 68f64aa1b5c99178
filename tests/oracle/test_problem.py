"""Problem files as they are executed: what they declare is taken, what has no meaning is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from harness.errors import ProblemError
from harness.oracle.problem import HEADLINE, Problem
from harness.problems import ProblemFile, listing
from harness.records import GradientPolicy, Tf32Policy

WHOLE = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self, size=3, *, bias=False):
        super().__init__()
        self.linear = nn.Linear(size, 2, bias=bias)

    def forward(self, x):
        return self.linear(x)

def get_inputs():
    return [torch.randn(4, 3)]

def get_init_inputs():
    return [3]
"""
CASES = "CASES = {'one': ([5], [(2, 5)]), 'two': ({'size': 7, 'bias': True}, [(1, 7)])}\n"


def load(folder: Path, text: str, *, gpu: bool = False) -> Problem:
    path = folder / "broken.py"
    path.write_text(text)
    return Problem.load(ProblemFile.read(path), gpu=gpu)


def refusal(folder: Path, text: str, *, ask: bool = False) -> str:
    """The words that refuse a file: one sentence, and the file in it."""
    with pytest.raises(ProblemError) as caught:
        problem = load(folder, text)
        if ask:
            for case in (problem.headline, *problem.cases):
                problem.construct(case)
                case.make_inputs()
    words = str(caught.value)
    assert words.startswith(str(folder / "broken.py"))
    return words.removeprefix(str(folder / "broken.py"))


BROKEN = {
    "CASES is a list": ("CASES = [1]\n", "CASES"),
    "a case is no pair": ("CASES = {'odd': 3}\n", "case 'odd'.*pair"),
    "a case is three": ("CASES = {'odd': ([], [(1,)], 3)}\n", "case 'odd'.*pair"),
    "a case's arguments": ("CASES = {'odd': (None, [(1, 3)])}\n", "case 'odd'.*arguments"),
    "a case's argument names": ("CASES = {'odd': ({1: 2}, [(1, 3)])}\n", "case 'odd'.*arguments"),
    "a taken name": (f"CASES = {{'{HEADLINE}': ([], [(1, 3)])}}\n", f"CASES.*'{HEADLINE}'"),
    "CPU_HEADLINE": (CASES + "CPU_HEADLINE = 'three'\n", "CPU_HEADLINE names 'three'"),
    "CPU_HEADLINE without cases": ("CPU_HEADLINE = 'one'\n", "CPU_HEADLINE names 'one'"),
    "TF32": ("TF32 = 'sometimes'\n", "TF32 is 'sometimes'; choose allowed, forbidden"),
    "TF32 is a truth": ("TF32 = True\n", "TF32 is True; choose"),
    "GRADIENTS": ("GRADIENTS = 'no'\n", "GRADIENTS is 'no'; choose required, optional, off"),
    "TOLERANCE is negative": ("TOLERANCE = {'multiple': -1.0}\n", "TOLERANCE must be positive"),
    "TOLERANCE is zero": ("TOLERANCE = {'floor': 0}\n", "TOLERANCE must be positive"),
    "TOLERANCE is endless": ("TOLERANCE = {'multiple': float('inf')}\n", "TOLERANCE must be"),
    "TOLERANCE is no number": ("TOLERANCE = {'multiple': float('nan')}\n", "TOLERANCE must be"),
    "TOLERANCE is a word": ("TOLERANCE = {'multiple': '3'}\n", "TOLERANCE"),
    "TOLERANCE has a part more": ("TOLERANCE = {'most': 3}\n", "TOLERANCE.*most"),
    "TOLERANCE is a number": ("TOLERANCE = 3\n", "TOLERANCE"),
    "Model is a function": ("def Model(): ...\n", "Model is not a subclass"),
    "Model is another class": ("class Model: ...\n", "Model is not a subclass"),
    "Model is an instance": ("Model = nn.Linear(1, 1)\n", "Model is not a subclass"),
    "get_init_inputs raises": (
        "def get_init_inputs():\n    raise KeyError('x')\n",
        r"get_init_inputs\(\).*KeyError",
    ),
    "get_init_inputs gives nothing": ("def get_init_inputs(): ...\n", r"get_init_inputs\(\)"),
    "the file itself": ("undefined_name\n", "cannot be executed: NameError"),
}
BROKEN_WHEN_ASKED = {
    "get_inputs raises": (
        "def get_inputs():\n    raise RuntimeError('no')\n",
        r"get_inputs\(\).*RuntimeError: no",
    ),
    "get_inputs gives a tensor": (
        "def get_inputs():\n    return torch.randn(4, 3)\n",
        r"get_inputs\(\).*Tensor is not a list",
    ),
    "get_inputs gives nothing": ("def get_inputs(): ...\n", r"get_inputs\(\)"),
    "shapes are no shapes": ("CASES = {'odd': ([], ['wide'])}\n", "inputs of case 'odd'"),
    "shapes are no list": ("CASES = {'odd': ([], 3)}\n", "inputs of case 'odd'"),
    "a negative size": ("CASES = {'odd': ([], [(-1, 3)])}\n", "inputs of case 'odd'"),
    "a function that raises": (
        "CASES = {'odd': ([], lambda: 1 / 0)}\n",
        "inputs of case 'odd'.*ZeroDivisionError",
    ),
    "a constructor that raises": (
        "CASES = {'odd': ({'length': 3}, [(1, 3)])}\n",
        "Model cannot be constructed for case 'odd'.*length",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_declaration_is_named_when_the_file_is_loaded(name: str, tmp_path: Path) -> None:
    text, words = BROKEN[name]
    assert re.search(words, refusal(tmp_path, WHOLE + text))


@pytest.mark.parametrize("name", BROKEN_WHEN_ASKED)
def test_a_broken_case_is_named_when_it_is_made(name: str, tmp_path: Path) -> None:
    text, words = BROKEN_WHEN_ASKED[name]
    assert re.search(words, refusal(tmp_path, WHOLE + text, ask=True))


def test_kernelbench_s_format_is_enough(tmp_path: Path) -> None:
    problem = load(tmp_path, WHOLE)
    assert problem.cases == ()
    assert problem.clocked is problem.headline
    assert problem.tf32 is Tf32Policy.FORBIDDEN
    assert problem.gradients is GradientPolicy.REQUIRED
    assert not problem.special_values
    assert problem.forward_flops is problem.forward_bytes is None
    assert problem.construct(problem.headline).training
    (x,) = problem.headline.make_inputs()
    assert x.shape == (4, 3)


def test_what_is_declared_is_taken(tmp_path: Path) -> None:
    text = (
        WHOLE
        + CASES
        + (
            "TF32 = 'allowed'\nGRADIENTS = 'off'\nSPECIAL_VALUES = True\nTRAINING = False\n"
            "TOLERANCE = {'multiple': 5.0, 'floor': 1e-3}\nCPU_HEADLINE = 'two'\n"
            "def forward_flops(model, x):\n    return 2 * x.numel()\n"
        )
    )
    problem = load(tmp_path, text)
    one, two = problem.cases
    assert (one.args, one.kwargs) == ((5,), {})
    assert (two.args, two.kwargs) == ((), {"size": 7, "bias": True})
    assert problem.clocked is two
    assert load(tmp_path, text, gpu=True).clocked.name == HEADLINE
    assert (problem.tf32, problem.gradients) == (Tf32Policy.ALLOWED, GradientPolicy.OFF)
    assert problem.special_values
    assert (problem.tolerance.multiple, problem.tolerance.floor) == (5.0, 1e-3)
    model = problem.construct(two)
    assert not model.training
    assert problem.forward_flops is not None
    assert problem.forward_flops(model, *two.make_inputs()) == 14


def test_inputs_are_drawn_anew_and_follow_the_seed(tmp_path: Path) -> None:
    problem = load(tmp_path, WHOLE + CASES + "CASES['made'] = ([5], lambda: [torch.rand(2, 5)])\n")
    for case in (problem.headline, *problem.cases):
        torch.manual_seed(1)
        one, other = case.make_inputs()[0], case.make_inputs()[0]
        torch.manual_seed(1)
        assert not torch.equal(one, other)
        assert torch.equal(one, case.make_inputs()[0])


def test_loading_leaves_nothing_behind_in_the_file(tmp_path: Path) -> None:
    text = WHOLE + "COUNT = [0]\ndef get_init_inputs():\n    COUNT[0] += 1\n    return [COUNT[0]]\n"
    assert load(tmp_path, text).headline.args == load(tmp_path, text).headline.args == (1,)


@pytest.mark.parametrize(
    "file", [f for f in listing() if isinstance(f, ProblemFile)], ids=lambda f: f.name
)
@pytest.mark.parametrize("gpu", [False, True])
def test_the_shipped_problems_can_be_executed(file: ProblemFile, gpu: bool) -> None:
    problem = Problem.load(file, gpu=gpu)
    assert problem.clocked.name == (HEADLINE if gpu else "cpu_headline")
    assert len(problem.cases) == file.cases
    for case in problem.cases:
        model = problem.construct(case)
        inputs = case.make_inputs()
        assert problem.forward_flops is not None
        assert problem.forward_bytes is not None
        assert problem.forward_flops(model, *inputs) > 0
        assert problem.forward_bytes(model, *inputs) > 0
        assert torch.is_tensor(model(*inputs))
