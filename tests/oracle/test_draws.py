"""What a trial is made of: new every time, of every layout, and never what a table holds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.oracle import draws
from harness.oracle.draws import Draw, Layout, stride_of

shapes = st.lists(st.integers(1, 5), max_size=4).map(tuple)
EVERY = draws.for_probe(special=True, gpu=True)


def ids(draw: Draw) -> str:
    return draw.name


class Weighted(nn.Module):
    """Parameters and buffers of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5))
        self.ones = nn.Parameter(torch.ones(6))
        self.zeros = nn.Parameter(torch.zeros(6))
        self.scalar = nn.Parameter(torch.tensor(1.0))
        self.tied = self.weight
        self.empty = nn.Parameter(torch.empty(0))
        self.register_buffer("running_mean", torch.zeros(6))
        self.register_buffer("running_var", torch.ones(6))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("mask", torch.ones(5, 5).tril())
        self.register_buffer("bias", torch.zeros(5, 5).masked_fill(torch.ones(5, 5) > 0, 0.0))
        self.register_buffer("causal", torch.full((4, 4), -math.inf).triu(1))
        self.register_buffer("positions", torch.arange(8.0))


TABLES = ["mask", "causal", "positions", "count"]
DRAWN = ["weight", "ones", "zeros", "scalar", "running_mean", "running_var", "bias"]


def redrawn(model: nn.Module, seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    initial = {name: tensor.clone() for name, tensor in Weighted().state_dict().items()}
    torch.manual_seed(seed)
    draws.redraw_weights(model, initial, scale)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# ---- layouts -----------------------------------------------------------------------------------


@given(shape=shapes, layout=st.sampled_from(Layout))
def test_a_layout_gives_every_element_a_place_of_its_own(
    shape: tuple[int, ...], layout: Layout
) -> None:
    stride, shift = stride_of(layout, shape)
    assert len(stride) == len(shape)
    places = torch.zeros(1, dtype=torch.long)
    for size, step in zip(shape, stride, strict=True):
        places = (places[:, None] + torch.arange(size) * step).flatten()
    if layout is Layout.EXPANDED:
        assert set(places.tolist()) == {0}
    else:
        assert len(set(places.tolist())) == math.prod(shape)
    assert shift == (1 if layout is Layout.OFFSET else 0)


@given(st.lists(st.integers(2, 5), min_size=1, max_size=4).map(tuple))
def test_a_strided_tensor_is_not_contiguous(shape: tuple[int, ...]) -> None:
    stride, _ = stride_of(Layout.STRIDED, shape)
    assert not torch.empty(1000).as_strided(shape, stride).is_contiguous()


@given(shapes)
def test_the_other_layouts_are_contiguous(shape: tuple[int, ...]) -> None:
    for layout in (Layout.CONTIGUOUS, Layout.OFFSET):
        assert stride_of(layout, shape)[0] == torch.empty(shape).stride()


# ---- which draws there are ---------------------------------------------------------------------


def test_a_probe_goes_through_everything() -> None:
    assert {d.inputs for d in EVERY} == {Layout.CONTIGUOUS, Layout.STRIDED, Layout.OFFSET}
    assert {d.cotangents for d in EVERY} == {Layout.CONTIGUOUS, Layout.STRIDED, Layout.EXPANDED}
    assert any(d.late for d in EVERY)
    assert any(d.special for d in EVERY)
    assert any(d.first_gradient_only for d in EVERY)
    assert any(d.frozen_inputs for d in EVERY)
    assert any(d.input_mean for d in EVERY)
    assert any(d.interleaved for d in EVERY)
    assert len({d.name for d in EVERY}) == len(EVERY)


def test_special_values_and_late_producers_are_asked_for() -> None:
    assert not any(d.special for d in draws.for_probe(special=False, gpu=True))
    assert not any(d.late for d in draws.for_probe(special=True, gpu=False))


def test_small_cases_take_the_odd_layouts_in_turn() -> None:
    seen = [draws.for_small(i) for i in range(2)]
    assert [d[0] for d in seen] == [draws.MIXED, draws.MIXED]
    assert {d[1].inputs for d in seen} == {Layout.STRIDED, Layout.OFFSET}


# ---- inputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", EVERY, ids=ids)
def test_structure_shape_and_dtype_of_inputs_stay(draw: Draw) -> None:
    value: Any = [torch.rand(3, 4), (torch.rand(5).half(), {"a": torch.rand(2).bfloat16()}), 3, "x"]
    got = draws.apply(draw, value)
    assert type(got) is list
    assert type(got[1]) is tuple
    for before, after in (
        (value[0], got[0]),
        (value[1][0], got[1][0]),
        (value[1][1]["a"], got[1][1]["a"]),
    ):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    assert got[2:] == [3, "x"]


@pytest.mark.parametrize("draw", EVERY, ids=ids)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_integers_stay_as_they_are(draw: Draw, dtype: torch.dtype) -> None:
    value = torch.randint(0, 2, (50,)).to(dtype)
    assert draws.apply(draw, value) is value


@pytest.mark.parametrize("draw", EVERY, ids=ids)
@pytest.mark.parametrize("make", [lambda: torch.rand(7, 9).T, lambda: torch.rand(9).expand(7, 9)])
def test_inputs_of_every_declared_layout_can_be_drawn(draw: Draw, make: Any) -> None:
    value = make()
    assert draws.apply(draw, value).shape == value.shape


@pytest.mark.parametrize("draw", EVERY, ids=ids)
def test_what_is_drawn_is_new_and_the_declared_tensor_is_left_alone(draw: Draw) -> None:
    value = torch.rand(100)
    before = value.clone()
    drawn = draws.apply(draw, value)
    drawn.zero_()
    assert torch.equal(value, before)


def test_the_declared_draw_keeps_the_declared_distribution() -> None:
    value = torch.rand(1000)
    assert torch.equal(draws.apply(draws.DECLARED, value), value)
    mixed = draws.apply(draws.MIXED, value)
    assert bool((mixed < 0).any())
    assert bool((mixed > 1).any())


def test_large_and_tiny_values_leave_the_range_of_fp16_and_not_of_fp32() -> None:
    torch.manual_seed(0)
    large = draws.apply(draws.LARGE_VALUES, torch.rand(1000))
    tiny = draws.apply(draws.TINY_VALUES, torch.rand(1000))
    assert bool(large.half().isinf().float().mean() > 0.9)
    assert bool((tiny.half() == 0).float().mean() > 0.3)
    assert bool(large.isfinite().all())
    assert bool((tiny != 0).all())
    for draw in (draws.LARGE_VALUES, draws.TINY_VALUES):
        assert 2**-5 <= draw.input_scale * draw.weight_scale <= 2**5, "products stay in range"


@given(seed=st.integers(0, 2**62))
def test_off_centre_values_lie_far_from_zero_compared_with_their_spread(seed: int) -> None:
    torch.manual_seed(seed)
    drawn = draws.apply(draws.OFF_CENTRE, torch.rand(4000))
    assert float(drawn.mean()) == pytest.approx(draws.FAR, abs=0.1)
    assert float(drawn.std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_still_holds_the_spread_of_off_centre_values(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    drawn = draws.apply(draws.OFF_CENTRE, torch.empty(4000, dtype=dtype)).double()
    assert float(drawn.std()) == pytest.approx(1, abs=0.1)
    assert float(drawn.mean()) > 10
    assert len(drawn.unique()) > 50


@given(st.integers(0, 400))
def test_special_values_are_all_three_and_a_few(size: int) -> None:
    drawn = draws.apply(draws.SPECIAL, torch.rand(size))
    odd = int((~drawn.isfinite()).sum())
    if size < 3:
        assert odd == 0
        return
    assert odd == max(3, size // 50)
    assert bool(drawn.isnan().any())
    assert bool((drawn == math.inf).any())
    assert bool((drawn == -math.inf).any())


# ---- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWN)
def test_weights_differ_from_seed_to_seed_and_from_their_initial_values(name: str) -> None:
    model = Weighted()
    initial = Weighted().state_dict()[name].clone()
    one, other, again = (redrawn(model, seed)[name] for seed in (1, 2, 1))
    assert not torch.equal(one, other)
    assert not torch.equal(one, initial)
    assert not torch.equal(other, initial)
    if name != "weight":  # whose initial values are random themselves
        assert torch.equal(one, again), "a seed tells the weights"
    if one.numel() > 1:
        assert len(one.flatten().unique()) > 1


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_not_a_weight(name: str) -> None:
    before = Weighted().state_dict()[name]
    for seed in range(3):
        assert torch.equal(redrawn(Weighted(), seed)[name], before)


@given(st.integers(0, 2**62))
def test_positive_buffers_stay_positive_and_all_stays_finite(seed: int) -> None:
    state = redrawn(Weighted(), seed)
    assert bool((state["running_var"] > 0).all())
    for name, tensor in state.items():
        assert name == "causal" or bool(tensor.isfinite().all())


def test_weights_scale_and_buffers_do_not() -> None:
    model = Weighted()
    plain, scaled = redrawn(model, 5), redrawn(model, 5, 2.0**10)
    for name in ("ones", "zeros", "scalar"):
        assert torch.equal(scaled[name], plain[name] * 2.0**10)
    for name in ("running_mean", "running_var", *TABLES):
        assert torch.equal(scaled[name], plain[name])


def test_a_weight_with_two_names_is_one_weight() -> None:
    state = redrawn(Weighted(), 3, 2.0**10)
    assert torch.equal(state["weight"], state["tied"])
    assert float(state["tied"].abs().mean()) > 100


def test_a_redraw_does_not_accumulate() -> None:
    model = Weighted()
    for seed in range(50):
        state = redrawn(model, seed)
    assert float(state["ones"].mean()) == pytest.approx(1, abs=1.5)
    assert float(state["ones"].abs().max()) < 5


# ---- cotangents --------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", EVERY, ids=ids)
def test_cotangents_have_their_outputs_form_and_their_draw_s_layout(draw: Draw) -> None:
    like = torch.empty(30, 40, dtype=torch.float32)
    one, other = draws.cotangent(draw, like), draws.cotangent(draw, like)
    assert (one.shape, one.dtype) == (like.shape, like.dtype)
    assert not torch.equal(one, other)
    assert bool((one != 0).all())
    if draw.cotangents is Layout.EXPANDED:
        assert one.stride() == (0, 0)
    else:
        assert len(one.unique()) > 1000
    size = float(one.abs().mean())
    assert draw.cotangent_scale * 0.4 < size < draw.cotangent_scale * 1.6


@pytest.mark.parametrize("draw", EVERY, ids=ids)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_an_output_that_cannot_have_a_gradient_has_a_cotangent_of_zeros(
    draw: Draw, dtype: torch.dtype
) -> None:
    got = draws.cotangent(draw, torch.ones(3, 4, dtype=dtype))
    assert (got.shape, got.dtype) == ((3, 4), dtype)
    assert not bool(got.any())
