"""What rounding alone may cost: honest orders of summation pass, cancellation and half do not."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from harness.oracle import draws
from harness.oracle.comparison import round_to_tf32, truncate_to_tf32
from harness.oracle.draws import Draw
from harness.oracle.problem import Problem
from harness.oracle.reference import Question, Reference, Target
from harness.problems import ProblemFile, find

CPU = torch.device("cpu")
EPSILON = 1e-5
"""Of the layer norm."""
Statistics = tuple[torch.Tensor, torch.Tensor]


@cache
def reference(name: str, case: str, declared: str = "") -> Reference:
    """A shipped problem's reference for one case, with more lines in its file."""
    shipped = find(name)
    file = ProblemFile(shipped.name, shipped.path, shipped.source + declared)
    problem = Problem.load(file, gpu=False)
    return Reference(problem, next(c for c in problem.cases if c.name == case), CPU)


def asked(asking: Reference, draw: Draw, seed: int, *, gradients: bool = True) -> Question:
    question = asking.ask(draw, seed, gradients=gradients)
    assert question is not None
    return question


def passes(target: Target, got: torch.Tensor) -> bool:
    return target.distance(got).within(target.budget)


# ---- values far from zero ----------------------------------------------------------------------


def tree_sum(values: torch.Tensor, threads: int = 256) -> torch.Tensor:
    """A block's sum of every row: each thread a stride of it, then halves."""
    padded = torch.nn.functional.pad(values, (0, -values.shape[1] % threads))
    sums = torch.zeros(values.shape[0], threads)
    for part in padded.split(threads, 1):
        sums = sums + part
    while sums.shape[1] > 1:
        sums = sums[:, : sums.shape[1] // 2] + sums[:, sums.shape[1] // 2 :]
    return sums


def serial_sum(values: torch.Tensor) -> torch.Tensor:
    """The sum of every row as one thread makes it."""
    total = torch.zeros(values.shape[0], 1)
    for column in values.split(1, 1):
        total = total + column
    return total


def two_passes(x: torch.Tensor, total: object) -> Statistics:
    assert callable(total)
    mean = total(x) / x.shape[1]
    return mean, total((x - mean).square()) / x.shape[1]


def welford(x: torch.Tensor) -> Statistics:
    """One thread, one pass."""
    mean, squares = torch.zeros(x.shape[0], 1), torch.zeros(x.shape[0], 1)
    for count, column in enumerate(x.split(1, 1), 1):
        away = column - mean
        mean = mean + away / count
        squares = squares + away * (column - mean)
    return mean, squares / x.shape[1]


def squares_less_square(x: torch.Tensor, threads: int) -> Statistics:
    """The formula that cancels."""
    mean = tree_sum(x, threads) / x.shape[1]
    squares = tree_sum(x.square(), threads) / x.shape[1]
    return mean, (squares - mean.square()).clamp(min=0)


HONEST = {
    "two passes, a tree": lambda x: two_passes(x, tree_sum),
    "two passes, serial": lambda x: two_passes(x, serial_sum),
    "Welford, serial": welford,
}
CANCELLING = {
    "a block's tree": lambda x: squares_less_square(x, 256),
    "a warp's tree": lambda x: squares_less_square(x, 32),
    "a large block's tree": lambda x: squares_less_square(x, 1024),
}


def normalised(question: Question, kernel: object) -> dict[str, torch.Tensor]:
    """A layer norm's output and gradients in float32 from statistics of some kernel."""
    assert callable(kernel)
    (x,), (g,) = question.args, question.cotangents
    weight, bias = question.weights["ln.weight"], question.weights["ln.bias"]
    mean, variance = kernel(x)
    inverse = 1 / torch.sqrt(variance + EPSILON)
    away = (x - mean) * inverse
    h = g * weight
    mean_h, projected = (tree_sum(t) / x.shape[1] for t in (h, h * away))
    return {
        "output": away * weight + bias,
        "0": inverse * (h - mean_h - away * projected),
        "ln.weight": (g * away).sum(0),
    }


def wrong_ones(question: Question, kernel: object) -> set[str]:
    got = normalised(question, kernel)
    targets = {"output": question.outputs[0]} | question.gradients
    return {name for name, value in got.items() if not passes(targets[name], value)}


@pytest.mark.parametrize("case", ["prime", "block_tail", "one_row", "cpu_headline"])
@pytest.mark.parametrize("kernel", HONEST)
@pytest.mark.parametrize("seed", range(3))
def test_a_variance_of_deviations_passes_far_from_zero(kernel: str, case: str, seed: int) -> None:
    question = asked(reference("layer_norm", case), draws.OFF_CENTRE, seed)
    assert not wrong_ones(question, HONEST[kernel])


@pytest.mark.parametrize("case", ["prime", "cpu_headline"])
@pytest.mark.parametrize("kernel", CANCELLING)
@pytest.mark.parametrize("seed", range(3))
def test_a_difference_of_squares_fails_there_by_far_and_nowhere_else(
    kernel: str, case: str, seed: int
) -> None:
    asking = reference("layer_norm", case)
    question = asked(asking, draws.OFF_CENTRE, seed)
    got = normalised(question, CANCELLING[kernel])
    (output,) = question.outputs
    assert output.distance(got["output"]).relative_l2 > 4 * output.budget.relative_l2
    assert wrong_ones(question, CANCELLING[kernel]) >= {"output", "0"}
    assert not wrong_ones(asked(asking, draws.MIXED, seed), CANCELLING[kernel])


@pytest.mark.parametrize("seed", range(4))
def test_tf32_of_any_rounding_passes_far_from_zero_where_it_is_allowed(seed: int) -> None:
    asking = reference("conv2d", "cpu_headline")
    question = asked(asking, draws.OFF_CENTRE, seed)
    for prepare in (round_to_tf32, truncate_to_tf32, lambda t: t):
        answer = asking.answer(question, gradients=True, prepare=prepare)
        assert passes(question.outputs[0], answer.outputs[0].values.float())
        for name, target in question.gradients.items():
            assert passes(target, answer.gradients[name].values.float())


def test_what_the_declared_precision_cannot_tell_far_from_zero_is_not_asked() -> None:
    allowed = '\nTF32 = "allowed"\n'
    assert reference("layer_norm", "prime", allowed).ask(draws.MIXED, 1, gradients=True)
    assert (
        reference("layer_norm", "prime", allowed).ask(draws.OFF_CENTRE, 1, gradients=True) is None
    )


# ---- few values --------------------------------------------------------------------------------


def serial_dot(question: Question) -> torch.Tensor:
    a, b = question.args
    total = torch.zeros(())
    for term in a.flatten() * b.flatten():
        total = total + term
    return total.view(1, 1)


@cache
def most_cancelled() -> list[int]:
    """Of many seeds those whose dot product is smallest beside what it is made of."""
    asking = reference("matmul", "dot_product")
    size = {}
    for seed in range(6000):
        torch.manual_seed(seed)
        a, b = (draws.apply(draws.MIXED, t) for t in asking.case.make_inputs())
        size[seed] = abs(float(a @ b))
    return sorted(size, key=size.__getitem__)[:25]


def test_a_serial_dot_product_passes_however_much_of_it_cancels() -> None:
    """Held against itself alone, the most cancelled of these would fail."""
    alone = []
    for seed in most_cancelled():
        question = asked(reference("matmul", "dot_product"), draws.MIXED, seed)
        (output,) = question.outputs
        got = serial_dot(question)
        assert passes(output, got), seed
        error = (got.double() - output.values).abs() / output.values.abs()
        alone.append(float(error) > output.budget.relative_l2)
    assert any(alone)


@pytest.mark.parametrize("seed", range(40))
def test_wrong_dot_products_fail_beside_a_usual_one(seed: int) -> None:
    question = asked(reference("matmul", "dot_product"), draws.MIXED, seed, gradients=False)
    (output,) = question.outputs
    a, b = (t.flatten() for t in question.args)
    if abs(float(output.values)) < 1e-3 * output.typical or abs(float(output.values) - 1) < 0.01:
        return
    half = torch.zeros((), dtype=torch.float16)
    for term in a * b:
        half = half + term.half()
    wrong = {
        "zero": torch.zeros(1, 1),
        "one": torch.ones(1, 1),
        "without its last term": output.like - a[-1] * b[-1],
        "a tenth of a per cent more": 1.001 * output.like,
    }
    for name, got in wrong.items():
        if name.startswith("a tenth") and abs(float(output.values)) < 0.1 * output.typical:
            continue  # that is rounding, beside a usual one
        assert not passes(output, got), name
    assert not passes(output, half.view(1, 1)) or abs(float(half) - float(output.values)) < 2e-3


def test_the_usual_size_is_the_one_that_few_values_have() -> None:
    """Root 1009 times what half of all normal values exceed; no more than a few times it."""
    sizes = [
        asked(reference("matmul", "dot_product"), draws.MIXED, seed).outputs[0].typical
        for seed in range(60)
    ]
    assert sorted(sizes)[30] == pytest.approx(0.67 * 1009**0.5, rel=0.3)
    assert max(sizes) < 3 * 1009**0.5
    many = asked(reference("matmul", "primes"), draws.MIXED, 1)
    assert not any(t.typical for t in [*many.outputs, *many.gradients.values()])


def test_a_timed_question_counts_few_values_as_large_as_before() -> None:
    asking = reference("matmul", "dot_product")
    before = asked(asking, draws.DECLARED, 1)
    after = asking.answer(asking.again(before, 2, 1)[0], gradients=True)
    assert after.outputs[0].typical == before.outputs[0].typical > 0
