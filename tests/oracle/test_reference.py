"""Questions: right in float64, new every time, asked only where they have a meaning."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ProblemError
from harness.oracle import comparison, draws
from harness.oracle.comparison import FLOORS
from harness.oracle.draws import Draw, Layout
from harness.oracle.problem import Case, Problem
from harness.oracle.reference import Question, Reference, Target
from harness.problems import ProblemFile, find, listing
from harness.records import TensorRole

CPU = torch.device("cpu")
SHIPPED = [f.name for f in listing() if isinstance(f, ProblemFile)]
LARGE = {"cpu_headline", "long_row", "many_rows"}
PROBE = draws.for_probe(special=True, gpu=False)
HEADER = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
FORMAT = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
{init}
    def forward(self, {args}):
{body}

def get_inputs():
    return [{inputs}]

def get_init_inputs():
    return []
"""


@cache
def shipped(name: str) -> Problem:
    return Problem.load(find(name), gpu=False)


@cache
def reference(problem: str, case: str) -> Reference:
    loaded = shipped(problem)
    return Reference(loaded, next(c for c in loaded.cases if c.name == case), CPU)


def small_cases() -> list[Any]:
    return [
        pytest.param(name, case.name, id=f"{name}-{case.name}")
        for name in SHIPPED
        for case in shipped(name).cases
        if case.name not in LARGE
    ]


def rows(text: str) -> str:
    return "".join(f"        {row}\n" for row in text.split("\n") if row)


def asked(
    folder: Path,
    body: str,
    draw: Draw = draws.MIXED,
    *,
    init: str = "",
    inputs: str = "torch.rand(6, 5)",
    args: str = "x",
    more: str = "",
    gradients: bool = True,
    seed: int = 1,
) -> Question | None:
    """Asks a problem that is written for the test."""
    text = FORMAT.format(init=rows(init), body=rows(body), inputs=inputs, args=args)
    path = folder / "written.py"
    path.write_text(HEADER + text + more)
    problem = Problem.load(ProblemFile.read(path), gpu=False)
    return Reference(problem, problem.headline, CPU).ask(draw, seed, gradients=gradients)


def answered(question: Question | None) -> Question:
    assert question is not None
    return question


def targets(question: Question) -> list[Target]:
    return [*question.outputs, *question.buffers, *question.gradients.values()]


def differs(target: Target, got: torch.Tensor) -> bool:
    found = comparison.norms(got.double(), target.values, scale=target.scale)
    return not found.within(target.budget)


def by_hand(problem: Problem, case: Case, question: Question) -> dict[str, torch.Tensor]:
    """Output and gradients of a question, by torch alone, in float64."""
    model = problem.construct(case).double()
    model.load_state_dict(question.weights)
    leaves = [
        a.double().requires_grad_(wanted) if a.is_floating_point() else a
        for a, wanted in zip(question.args, question.wanted, strict=True)
    ]
    output = model(*leaves)
    found = {"output": output.detach()}
    if question.gradients:
        output.backward(question.cotangents[0].double())
        found |= {str(i): t.grad for i, t in enumerate(leaves) if t.grad is not None}
        found |= {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found


# ---- the shipped problems ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "case"), small_cases())
def test_expected_values_are_torch_s_in_float64(name: str, case: str) -> None:
    asking = reference(name, case)
    for seed, draw in enumerate((draws.MIXED, draws.STRIDED)):
        question = asking.ask(draw, seed, gradients=True)
        assert question is not None
        expected = by_hand(asking.problem, asking.case, question)
        (output,) = question.outputs
        got = {"output": output} | question.gradients
        assert got.keys() == expected.keys()
        for key, target in got.items():
            assert target.values.dtype is torch.float64
            torch.testing.assert_close(target.values, expected[key], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("name", "case"), small_cases())
def test_zeros_never_pass_and_the_reference_always_does(name: str, case: str) -> None:
    question = answered(reference(name, case).ask(draws.MIXED, 5, gradients=True))
    for target in targets(question):
        assert not differs(target, target.values.to(target.like.dtype))
        assert not differs(target, target.like)
        if bool((target.values.abs() > 1e-12).any()):
            assert differs(target, torch.zeros_like(target.like)), target.name


@pytest.mark.parametrize("draw", PROBE, ids=lambda d: d.name)
@pytest.mark.parametrize("name", SHIPPED)
def test_every_draw_is_asked_or_has_no_meaning(name: str, draw: Draw) -> None:
    problem = shipped(name)
    if draw.special and not problem.special_values:
        pytest.skip("special values are not for this problem")
    question = reference(name, problem.cases[3].name).ask(draw, 11, gradients=True)
    if question is None and draw is draws.FROZEN:
        assert not list(reference(name, problem.cases[3].name).model.parameters())
        return
    if question is None:
        assert name == "softmax", "the others take values of every size"
        assert draw is draws.LARGE_VALUES
        return
    assert bool(question.gradients) is not draw.special
    assert differs(question.outputs[0], torch.zeros_like(question.outputs[0].like))
    for target in targets(question):
        floor = FLOORS[target.like.dtype]
        allowed, own = target.budget, target.reference_error
        assert allowed.relative_l2 == max(3 * own.relative_l2, floor)
        assert allowed.maximum >= 10 * floor
        assert allowed.tile >= 3 * floor
        assert own.within(allowed)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_question_is_new_with_every_seed_and_the_same_with_the_same(name: str) -> None:
    asking = reference(name, shipped(name).cases[1].name)
    one, other, again = (
        answered(asking.ask(draws.MIXED, seed, gradients=True)) for seed in (1, 2, 1)
    )
    for a, b, c in zip(one.args, other.args, again.args, strict=True):
        assert not torch.equal(a, b)
        assert torch.equal(a, c)
    for key, weight in one.weights.items():
        assert not torch.equal(weight, other.weights[key]), key
        assert torch.equal(weight, again.weights[key])
    assert not torch.equal(one.cotangents[0], other.cotangents[0])
    assert torch.equal(one.outputs[0].values, again.outputs[0].values)


@given(st.integers(0, 2**62))
@settings(max_examples=10)
def test_weights_that_start_as_one_and_zero_are_neither(seed: int) -> None:
    asking = reference("layer_norm", "odd_features")
    weights = answered(asking.ask(draws.MIXED, seed, gradients=False)).weights
    for start, name in ((1.0, "ln.weight"), (0.0, "ln.bias")):
        assert bool((weights[name] != start).all())
        assert len(weights[name].unique()) == weights[name].numel()


@pytest.mark.parametrize("draw", [d for d in PROBE if not d.frozen_inputs], ids=lambda d: d.name)
def test_cotangents_have_the_draw_s_layout(draw: Draw) -> None:
    question = answered(reference("relu", "prime").ask(draw, 3, gradients=True))
    (cotangent,) = question.cotangents
    expanded = cotangent.stride() == (0,)
    assert expanded is (draw.cotangents is Layout.EXPANDED)
    if not expanded:
        assert len(cotangent.unique()) > 900


def test_frozen_inputs_leave_the_gradients_of_all_parameters() -> None:
    norm = answered(reference("layer_norm", "image").ask(draws.FROZEN, 1, gradients=True))
    assert set(norm.gradients) == set(norm.wanted_parameters) == {"ln.weight", "ln.bias"}
    assert not any(norm.wanted)
    assert reference("relu", "prime").ask(draws.FROZEN, 1, gradients=True) is None


def test_a_subset_of_gradients_is_the_first_input_and_the_first_parameter() -> None:
    both = answered(reference("matmul", "primes").ask(draws.SUBSET, 1, gradients=True))
    assert both.wanted == [True, False]
    assert set(both.gradients) == {"0"}
    norm = answered(reference("layer_norm", "image").ask(draws.SUBSET, 1, gradients=True))
    assert set(norm.gradients) == {"0", "ln.weight"}


def test_without_gradients_nothing_is_differentiated() -> None:
    question = answered(reference("layer_norm", "image").ask(draws.MIXED, 1, gradients=False))
    assert (question.wanted, question.wanted_parameters) == ([False], [])
    assert question.gradients == {}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_timed_question_has_new_inputs_and_the_budgets_of_the_old(name: str) -> None:
    asking = reference(name, shipped(name).cases[1].name)
    before = answered(asking.ask(draws.DECLARED, 1, gradients=True))
    after = asking.answer(asking.again(before, 2, 1)[0], gradients=True)
    assert not torch.equal(before.args[0], after.args[0])
    assert all(torch.equal(before.weights[n], after.weights[n]) for n in before.weights)
    for old, new in zip(targets(before), targets(after), strict=True):
        assert (old.name, old.budget) == (new.name, new.budget)
    expected = by_hand(asking.problem, asking.case, after)
    torch.testing.assert_close(after.outputs[0].values, expected["output"], rtol=1e-11, atol=1e-13)
    for key, target in after.gradients.items():
        torch.testing.assert_close(target.values, expected[key], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("tf32", "passes"), [("allowed", True), ("forbidden", False)])
def test_tf32_passes_exactly_where_the_problem_allows_it(
    tf32: str, passes: bool, tmp_path: Path
) -> None:
    question = asked(
        tmp_path,
        "return a @ b",
        inputs="torch.rand(40, 512), torch.rand(512, 24)",
        args="a, b",
        more=f"TF32 = '{tf32}'\n",
    )
    question = answered(question)
    (output,) = question.outputs
    a, b = map(comparison.round_to_tf32, question.args)
    assert differs(output, a @ b) is not passes
    assert differs(output, a.bfloat16().float() @ b.bfloat16().float())
    assert not differs(output, question.args[0] @ question.args[1])


# ---- problems of other kinds -------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "if bool((x < 0).any()): raise ValueError('negative')\nreturn x.sqrt()",
        "return x.log()",
        "return x.sqrt()",
    ],
)
def test_a_draw_that_the_reference_cannot_take_is_not_asked(body: str, tmp_path: Path) -> None:
    assert asked(tmp_path, body, draws.MIXED) is None
    declared = answered(asked(tmp_path, body, draws.DECLARED))
    assert bool(declared.outputs[0].values.isfinite().all())


def test_a_reference_that_fails_on_its_own_inputs_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"written\.py.*case 'headline'.*no such thing"):
        asked(tmp_path, "raise ValueError('no such thing')", draws.DECLARED)
    with pytest.raises(ProblemError, match="returns no tensor"):
        asked(tmp_path, "return None", draws.MIXED)


def test_a_reference_that_is_itself_far_off_is_not_asked(tmp_path: Path) -> None:
    assert asked(tmp_path, "return (x + 1e8) - 1e8") is None


def test_integer_inputs_stay_and_have_no_gradient(tmp_path: Path) -> None:
    for draw in (draws.MIXED, draws.LARGE_VALUES, draws.STRIDED, draws.OFFSET):
        question = asked(
            tmp_path,
            "return self.table(i) * x",
            draw,
            init="self.table = nn.Embedding(9, 5)",
            inputs="torch.arange(6) % 9, torch.rand(6, 5)",
            args="i, x",
        )
        question = answered(question)
        assert torch.equal(question.args[0], torch.arange(6) % 9)
        assert question.wanted == [False, True]
        assert set(question.gradients) == {"1", "table.weight"}


def test_an_output_of_indices_is_compared_exactly(tmp_path: Path) -> None:
    for draw in set(PROBE) - {draws.FROZEN, draws.INTERLEAVED}:  # nothing can be differentiated
        question = answered(asked(tmp_path, "return x.argmax(1)", draw))
        (output,) = question.outputs
        assert output.like.dtype is torch.int64
        assert question.gradients == {}
        wrong = output.like.clone()
        wrong[3] += 1
        assert differs(output, wrong)
        assert not differs(output, output.like)


def test_outputs_of_several_kinds_are_differentiated_where_they_can_be(tmp_path: Path) -> None:
    question = answered(asked(tmp_path, "v, i = x.max(1)\nreturn {'v': v, 'i': [i]}"))
    assert [t.name for t in question.outputs] == ["output['v']", "output['i'][0]"]
    assert set(question.gradients) == {"0"}
    assert float(question.gradients["0"].values.count_nonzero()) == 6


def test_buffers_that_the_forward_updates_are_part_of_the_answer(tmp_path: Path) -> None:
    question = answered(asked(tmp_path, "return self.bn(x)", init="self.bn = nn.BatchNorm1d(5)"))
    before = question.weights["bn.running_mean"]
    found = {t.name: t for t in question.buffers}
    assert set(found) == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    expected = 0.9 * before.double() + 0.1 * question.args[0].double().mean(0)
    assert found["bn.running_mean"].role is TensorRole.BUFFER
    torch.testing.assert_close(found["bn.running_mean"].values, expected, rtol=1e-6, atol=1e-8)
    assert differs(found["bn.running_mean"], before), "a buffer left alone does not pass"
    assert differs(found["bn.num_batches_tracked"], question.weights["bn.num_batches_tracked"])


@pytest.mark.parametrize(
    "draw", [draws.MIXED, draws.TINY_VALUES, draws.LARGE_VALUES], ids=lambda d: d.name
)
@pytest.mark.parametrize("body", ["return x * x", "return x * x.abs()", "return x @ x.T"])
def test_zeros_do_not_pass_for_being_small(body: str, draw: Draw, tmp_path: Path) -> None:
    for target in targets(answered(asked(tmp_path, body, draw))):
        assert differs(target, torch.zeros_like(target.like)), target.name
        assert differs(target, 1.01 * target.like), target.name


def test_a_gradient_that_is_nothing_but_cancellation_may_be_zero(tmp_path: Path) -> None:
    body = "return self.bn(self.linear(x))"
    init = "self.linear = nn.Linear(5, 4)\nself.bn = nn.BatchNorm1d(4)"
    question = answered(asked(tmp_path, body, init=init))
    bias = question.gradients["linear.bias"]
    assert not differs(bias, torch.zeros_like(bias.like))
    assert differs(bias, torch.ones_like(bias.like))
    weight = question.gradients["linear.weight"]
    assert differs(weight, torch.zeros_like(weight.like))


def test_a_mask_stays_a_mask(tmp_path: Path) -> None:
    init = "self.register_buffer('mask', torch.ones(6, 6).tril())"
    body = "s = (x @ x.T).masked_fill(self.mask == 0, float('-inf'))\nreturn s.softmax(-1)"
    question = answered(asked(tmp_path, body, init=init))
    assert torch.equal(question.weights["mask"], torch.ones(6, 6).tril())
    assert float(question.outputs[0].values.triu(1).abs().max()) == 0


def test_a_weight_with_two_names_is_rounded_once_and_everywhere(tmp_path: Path) -> None:
    init = "self.a = nn.Linear(5, 5, bias=False)\nself.b = nn.Linear(5, 5, bias=False)\n"
    question = asked(
        tmp_path,
        "return self.b(self.a(x))",
        init=init + "self.b.weight = self.a.weight",
        inputs="torch.rand(64, 5)",
        more="TF32 = 'allowed'\n",
    )
    question = answered(question)
    assert torch.equal(question.weights["a.weight"], question.weights["b.weight"])
    assert set(question.gradients) == {"0", "a.weight"}


def test_nan_and_infinities_are_expected_where_the_reference_lets_them_through() -> None:
    question = answered(reference("relu", "prime").ask(draws.SPECIAL, 3, gradients=True))
    (output,) = question.outputs
    x = question.args[0]
    assert torch.equal(output.values.isnan(), x.isnan())
    assert not differs(output, x.relu())
    assert differs(output, x.relu().nan_to_num(0.0)), "a kernel that drops NaN is found"
    assert question.gradients == {}


def test_asking_leaves_torch_s_defaults_as_they_were() -> None:
    flags = torch.get_default_dtype(), torch.backends.cuda.matmul.allow_tf32
    answered(reference("conv2d", "bias").ask(draws.MIXED, 1, gradients=True))
    assert (torch.get_default_dtype(), torch.backends.cuda.matmul.allow_tf32) == flags
    assert torch.is_grad_enabled()


def test_a_question_holds_its_own_copies() -> None:
    asking = reference("layer_norm", "image")
    one = answered(asking.ask(draws.MIXED, 1, gradients=True))
    kept = {n: t.clone() for n, t in one.weights.items()}
    values = [t.values.clone() for t in targets(one)]
    answered(asking.ask(draws.MIXED, 2, gradients=True))
    asking.again(replace(one), 3, 2)
    assert all(torch.equal(one.weights[n], kept[n]) for n in kept)
    assert all(torch.equal(t.values, v) for t, v in zip(targets(one), values, strict=True))


def test_a_gradient_that_vanishes_has_a_scale_in_float64_too(tmp_path: Path) -> None:
    path = tmp_path / "softmax64.py"
    path.write_text(find("softmax").source + '\nDTYPE = "float64"\n')
    problem = Problem.load(ProblemFile.read(path), gpu=False)
    case = next(c for c in problem.cases if c.name == "short_rows")
    question = Reference(problem, case, CPU).ask(draws.OFFSET, seed=7, gradients=True)
    assert question is not None
    (target,) = question.gradients.values()
    noise = 1e-16 * torch.randn_like(target.values)
    found = comparison.norms(target.values + noise, target.values, scale=target.scale)
    assert found.within(target.budget)
    zeros = torch.zeros_like(question.outputs[0].values)
    wrong = comparison.norms(zeros, question.outputs[0].values, scale=question.outputs[0].scale)
    assert not wrong.within(question.outputs[0].budget)
