"""Distances and budgets: what must be found is found, what is only rounding is not."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.oracle.comparison import (
    FLOORS,
    TILE,
    budget,
    larger,
    norms,
    round_to_serial_sums,
    round_to_tf32,
    truncate_to_tf32,
    worst,
)
from harness.oracle.problem import Tolerance
from harness.records import Norms

NAMES = ("relative_l2", "maximum", "tile")
HUGE = 1e308
ODD = (math.nan, math.inf, -math.inf)
seeds = st.integers(0, 2**32 - 1)
scales = st.integers(-300, 300).map(lambda n: 2.0**n)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


def drawn(seed: int, shape: tuple[int, ...] = (7, 41)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def parts(found: Norms) -> tuple[float, ...]:
    return tuple(getattr(found, name) for name in NAMES)


# ---- norms -------------------------------------------------------------------------------------


@given(seed=seeds, shape=shapes)
def test_equal_values_have_no_distance(seed: int, shape: tuple[int, ...]) -> None:
    values = drawn(seed, shape)
    assert parts(norms(values.clone(), values, scale=1.0)) == (0, 0, 0)


@given(seed=seeds, scale=scales)
def test_the_unit_of_the_values_does_not_enter(seed: int, scale: float) -> None:
    expected, error = drawn(seed), 1e-3 * drawn(seed + 1)
    before = norms(expected + error, expected, scale=0.0)
    after = norms((expected + error) * scale, expected * scale, scale=0.0)
    assert parts(after) == pytest.approx(parts(before))


@given(seed=seeds, size=st.floats(1e-9, 1e3))
def test_the_norms_are_what_they_are_said_to_be(seed: int, size: float) -> None:
    expected, error = drawn(seed, (3, 300)), size * drawn(seed + 1, (3, 300))
    found = norms(expected + error, expected, scale=0.0)
    error = (expected + error) - expected
    rms = expected.square().mean().sqrt()
    assert found.relative_l2 == pytest.approx(float(error.norm() / expected.norm()))
    assert found.maximum == pytest.approx(float(error.abs().max() / rms))
    tiles = error.flatten().split(TILE)
    worst_tile = max(float(t.square().sum() / TILE) ** 0.5 for t in tiles)
    assert found.tile == pytest.approx(worst_tile / float(rms))


@given(seed=seeds, factor=st.floats(1e-6, 1e6))
def test_distances_grow_with_the_error(seed: int, factor: float) -> None:
    expected, error = drawn(seed), drawn(seed + 1)
    one = parts(norms(expected + error, expected, scale=0.0))
    other = parts(norms(expected + factor * error, expected, scale=0.0))
    assert other == pytest.approx(tuple(factor * x for x in one), rel=1e-4)


def test_zeros_are_as_far_off_as_can_be() -> None:
    expected = drawn(0)
    assert norms(torch.zeros_like(expected), expected, scale=1.0).relative_l2 == pytest.approx(1)


def test_where_zero_is_expected_the_scale_stands_in() -> None:
    zero, got = torch.zeros(10, dtype=torch.float64), torch.full((10,), 3e-3, dtype=torch.float64)
    assert norms(got, zero, scale=3.0).relative_l2 == pytest.approx(1e-3)
    assert norms(got, zero, scale=0.0).relative_l2 == pytest.approx(3e-3)
    assert parts(norms(zero, zero, scale=0.0)) == (0, 0, 0)


@given(seed=seeds, size=st.floats(1e-6, 1.0))
def test_few_values_that_are_small_by_chance_count_as_large_as_usual(
    seed: int, size: float
) -> None:
    expected, error = size * drawn(seed, (3,)), 1e-6 * drawn(seed + 1, (3,))
    usual = 10 * float(drawn(seed, (3,)).abs().max())
    found = norms(expected + error, expected, scale=0.0, typical=usual)
    assert found.relative_l2 == pytest.approx(float(error.square().mean().sqrt()) / usual, rel=1e-3)
    smaller = norms(expected + error, expected, scale=0.0, typical=1e-9 * size)
    assert parts(smaller) == parts(norms(expected + error, expected, scale=0.0))


def test_what_cancels_to_almost_zero_is_held_against_what_it_was_made_of() -> None:
    expected = 1e-17 * drawn(1)
    assert norms(1e-8 * drawn(2), expected, scale=1.0).relative_l2 < 1e-7
    assert norms(1e-8 * drawn(2), expected, scale=0.0).relative_l2 > 1e8


def test_nothing_is_equal_to_nothing() -> None:
    empty = torch.empty(0, 3, dtype=torch.float64)
    assert parts(norms(empty, empty, scale=1.0)) == (0, 0, 0)


def test_one_wrong_element_of_a_million_is_found_by_the_maximum() -> None:
    expected = drawn(3, (1000, 1000))
    got = expected + 1e-7 * drawn(4, (1000, 1000))
    got[617, 283] += 5e-3
    found = norms(got, expected, scale=1.0)
    allowed = budget(
        norms(expected.float().double(), expected, scale=1.0), Tolerance(), torch.float32
    )
    assert found.relative_l2 <= allowed.relative_l2
    assert found.maximum > 10 * allowed.maximum
    assert worst(got, expected).index == (617, 283)


def test_a_tile_that_is_a_little_wrong_is_found_by_the_tile() -> None:
    expected = drawn(5, (1000, 1024))
    got = expected.clone()
    got.view(-1)[TILE * 77 : TILE * 78] += 2e-4 * drawn(6, (TILE,)).sign()
    found = norms(got, expected, scale=1.0)
    allowed = budget(norms(expected, expected, scale=1.0), Tolerance(), torch.float32)
    assert found.relative_l2 <= allowed.relative_l2
    assert found.maximum <= allowed.maximum
    assert found.tile > allowed.tile


# ---- NaN and infinities ------------------------------------------------------------------------


@pytest.mark.parametrize("got", [*ODD, 0.0, 1.0])
@pytest.mark.parametrize("expected", [*ODD, 1.0])
def test_nan_meets_nan_and_an_infinity_its_own_sign(got: float, expected: float) -> None:
    values, answer = drawn(7, (5, 60)), drawn(7, (5, 60))
    values[2, 33], answer[2, 33] = expected, got
    found = norms(answer, values, scale=1.0)
    if got == expected or (math.isnan(got) and math.isnan(expected)):
        assert parts(found) == (0, 0, 0)
    elif math.isfinite(got) and math.isfinite(expected):
        assert 0 < found.maximum < 100
    else:
        assert parts(found) == (HUGE, HUGE, HUGE)
        assert not found.within(Norms(relative_l2=1e300, maximum=1e300, tile=1e300))
        assert worst(answer, values).index == (2, 33)


@given(seed=seeds, odd=st.sampled_from(ODD))
def test_odd_values_that_agree_do_not_hide_what_is_wrong(seed: int, odd: float) -> None:
    expected = drawn(seed)
    expected[::3] = odd
    got = expected.clone()
    got[1] += 0.5
    found = norms(got, expected, scale=1.0)
    assert 0.01 < found.relative_l2 < 10


@given(seed=seeds)
def test_everything_may_be_odd(seed: int) -> None:
    expected = torch.tensor(ODD, dtype=torch.float64).repeat(20)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    assert parts(norms(expected.clone(), expected, scale=1.0)) == (0, 0, 0)
    shuffled = expected[order]
    assume(not bool((shuffled.nan_to_num(7.0) == expected.nan_to_num(7.0)).all()))
    assert norms(shuffled, expected, scale=1.0).maximum == HUGE


# ---- the worst element -------------------------------------------------------------------------


@given(seed=seeds, shape=shapes, data=st.data())
def test_the_worst_element_is_named(seed: int, shape: tuple[int, ...], data: st.DataObject) -> None:
    expected = drawn(seed, shape)
    got = expected + 1e-6 * drawn(seed + 1, shape)
    at = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    got[at] = expected[at] + data.draw(st.sampled_from([1.0, -2.0, *ODD]))
    found = worst(got, expected)
    assert found.index == at
    assert found.expected == float(expected[at])
    value = float(got[at])
    assert (
        found.got == value
        or (math.isnan(value) and math.isnan(found.got))
        or (math.isinf(value) and found.got == math.copysign(HUGE, value))
    )


def test_the_worst_element_of_a_scalar_has_no_index() -> None:
    one = torch.tensor(1.0, dtype=torch.float64)
    assert worst(one + 1, one).index == ()


# ---- budgets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOORS, ids=str)
@given(error=st.floats(0, 10), multiple=st.floats(0.1, 100))
def test_a_budget_is_a_multiple_of_the_error_and_at_least_the_floor(
    dtype: torch.dtype, error: float, multiple: float
) -> None:
    own = Norms(relative_l2=error, maximum=7 * error, tile=2 * error)
    allowed = budget(own, Tolerance(multiple=multiple), dtype)
    assert own.within(allowed) or multiple < 1
    assert allowed.relative_l2 == max(multiple * error, FLOORS[dtype])
    assert allowed.maximum == max(multiple * own.maximum, 10 * FLOORS[dtype])
    assert allowed.tile == max(multiple * own.tile, 3 * FLOORS[dtype])


def test_a_declared_floor_replaces_the_dtype_s() -> None:
    none = Norms(relative_l2=0, maximum=0, tile=0)
    assert budget(none, Tolerance(floor=1e-3), torch.float32).relative_l2 == 1e-3
    assert budget(none, Tolerance(), torch.int64).relative_l2 == 0, "indices are exact"


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_the_larger_of_two_is_taken_norm_by_norm(values: list[float]) -> None:
    a, b = (Norms(**dict(zip(NAMES, values[i : i + 3]))) for i in (0, 3))
    assert parts(larger(a, b)) == tuple(map(max, values[:3], values[3:]))


# ---- what precision leaves in a product of matrices --------------------------------------------


def product(precision: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A float32 product as kernels of several precisions make it."""
    order = torch.randperm(a.shape[1], generator=torch.Generator().manual_seed(1))
    if precision == "fp32, another order":
        chunks = zip(a[:, order].split(32, 1), b[order].split(32), strict=True)
        return sum((x @ y for x, y in chunks), torch.zeros(a.shape[0], b.shape[1]))
    if precision == "fp32, serial":
        total = torch.zeros(a.shape[0], b.shape[1])
        for k in range(a.shape[1]):
            total = total + a[:, k, None] * b[k]
        return total
    if precision == "tf32":
        return round_to_tf32(a) @ round_to_tf32(b)
    if precision == "zeros":
        return torch.zeros(a.shape[0], b.shape[1])
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return a.to(dtype).float() @ b.to(dtype).float()


@pytest.mark.parametrize(
    ("precision", "forbidden", "allowed"),
    [
        ("fp32, another order", True, True),
        ("fp32, serial", True, True),
        ("tf32", False, True),
        ("fp16", False, True),
        ("bf16", False, False),
        ("zeros", False, False),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_product_passes_in_the_declared_precision_and_in_no_less(
    precision: str, forbidden: bool, allowed: bool, seed: int
) -> None:
    a, b = drawn(seed, (48, 512)).float(), drawn(seed + 100, (512, 40)).float()
    exact = a.double() @ b.double()
    fp32 = norms((a @ b).double(), exact, scale=1.0)
    tf32 = norms(round_to_tf32(a).double() @ round_to_tf32(b).double(), exact, scale=1.0)
    found = norms(product(precision, a, b).double(), exact, scale=1.0)
    assert found.within(budget(fp32, Tolerance(), torch.float32)) is forbidden
    assert found.within(budget(larger(fp32, tf32), Tolerance(), torch.float32)) is allowed


# ---- TF32 --------------------------------------------------------------------------------------


def rounded_exactly(value: float) -> float:
    """To eleven significant bits (fewer below 2^-126), to nearest, ties to even, as fractions."""
    if value == 0:
        return value
    exact = Fraction(value)
    exponent = max(math.frexp(value)[1] - 1, -126)
    unit = Fraction(2) ** (exponent - 10)
    count = round(exact / unit)  # Python rounds ties to even
    result = float(abs(count) * unit)
    return math.copysign(math.inf if result >= 2.0**128 else result, value)


@given(st.lists(floats32, min_size=1, max_size=50))
def test_tf32_is_the_exact_rounding(values: list[float]) -> None:
    got = round_to_tf32(torch.tensor(values))
    for one, expected in zip(got.tolist(), map(rounded_exactly, values), strict=True):
        assert one == expected
        assert math.copysign(1, one) == math.copysign(1, expected)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_tf32_of_every_bit_pattern(bits: list[int]) -> None:
    signed = [b - 2**32 if b >= 2**31 else b for b in bits]
    values = torch.tensor(signed, dtype=torch.int32).view(torch.float32)
    got = round_to_tf32(values)
    again = round_to_tf32(got)
    for value, one, two in zip(values.tolist(), got.tolist(), again.tolist(), strict=True):
        if math.isnan(value):
            assert math.isnan(one)
            continue
        assert one == two, "rounding again changes nothing"
        assert one == (value if math.isinf(value) else rounded_exactly(value))


@given(st.integers(-126, 127), st.integers(0, 2**10 - 1), st.sampled_from([-1.0, 1.0]))
def test_ties_go_to_the_even_neighbour(exponent: int, mantissa: int, sign: float) -> None:
    tie = sign * math.ldexp(1 + (mantissa + 0.5) / 1024, exponent)
    (got,) = round_to_tf32(torch.tensor([tie])).tolist()
    even = mantissa + mantissa % 2
    expected = sign * math.ldexp(1 + even / 1024, exponent)
    assert got == (expected if abs(expected) < 2.0**128 else math.copysign(math.inf, sign))


@settings(max_examples=10)
@given(seeds)
def test_tf32_keeps_layout_and_leaves_other_dtypes_alone(seed: int) -> None:
    values = drawn(seed, (6, 8)).float().T[::2]
    assert round_to_tf32(values).shape == values.shape
    assert torch.equal(round_to_tf32(values), round_to_tf32(values.contiguous()))
    for other in (values.double(), values.half(), values.long()):
        assert round_to_tf32(other) is other
    expanded = torch.tensor(1 / 3).expand(4, 5)
    assert bool((round_to_tf32(expanded) == rounded_exactly(float(expanded[0, 0]))).all())


# ---- other roundings ---------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_a_cut_is_the_nearest_tf32_towards_zero(bits: list[int]) -> None:
    signed = [b - 2**32 if b >= 2**31 else b for b in bits]
    values = torch.tensor(signed, dtype=torch.int32).view(torch.float32)
    cut = truncate_to_tf32(values)
    assert torch.equal(cut.nan_to_num(), round_to_tf32(cut).nan_to_num()), "it is a TF32 value"
    for value, one in zip(values.tolist(), cut.tolist(), strict=True):
        if math.isfinite(value):
            assert abs(one) <= abs(value)
            assert abs(value) - abs(one) < max(math.ldexp(abs(value), -10), 2.0**-136)
        else:
            assert one == value or math.isnan(value)


@given(
    seed=seeds, scale=st.integers(-60, 60), dtype=st.sampled_from([torch.float32, torch.float64])
)
def test_the_error_of_serial_sums_is_up_to_sixteen_units_of_the_last_place(
    seed: int, scale: int, dtype: torch.dtype
) -> None:
    values = (drawn(seed) * 2.0**scale).to(dtype)
    rounded = round_to_serial_sums(values)
    units = (rounded.double() - values.double()).abs() / values.double().abs()
    units = units / (torch.finfo(dtype).eps / 2)
    assert float(units.max()) <= 32, "half a unit of five bits less, in halves of a unit"
    assert 4 < float(units.square().mean().sqrt()) < 20
    assert torch.equal(round_to_serial_sums(rounded), rounded)


def test_the_error_of_serial_sums_is_one_of_float32_and_float64_only() -> None:
    for kept in (drawn(1).half(), drawn(1).bfloat16(), torch.arange(5)):
        assert round_to_serial_sums(kept) is kept
    odd = torch.tensor(ODD)
    assert torch.equal(round_to_serial_sums(odd).isnan(), odd.isnan())
    assert torch.equal(round_to_serial_sums(odd[1:]), odd[1:])
