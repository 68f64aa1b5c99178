"""The oracle's memory: slots apart from each other, guards around all, one memory for two."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator

import children
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.arena import (
    GUARD,
    POISON,
    Arena,
    HostArena,
    Plan,
    Slot,
    allocate,
    attach,
    contiguous_stride,
    dtype_of,
    name_of,
)
from harness.oracle.draws import Layout, stride_of

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip
dtypes = st.sampled_from(DTYPES)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
requests = st.tuples(dtypes, shapes, st.sampled_from(Layout))

MAP = """
import mmap, os, sys
fd, size = int(sys.argv[1]), int(sys.argv[2])
memory = mmap.mmap(fd, size)
assert memory[:4] == b"seen"
memory[-4:] = b"back"
refused = 0
for change in (0, size // 2, size * 2):
    try:
        os.ftruncate(fd, change)
    except PermissionError:
        refused += 1
print(refused, memory[:].count(0xFF))
"""
ATTACH = """
import json, sys
from harness.arena import Slot, attach
arena = attach({"kind": "host", "size": int(sys.argv[2])}, [int(sys.argv[1])])
source, target = (Slot.from_wire(slot) for slot in json.loads(sys.argv[3]))
arena.view(target).copy_(arena.view(source) * 2)
"""


def planned(wanted: list[tuple[torch.dtype, tuple[int, ...], Layout]]) -> Plan:
    plan = Plan()
    for dtype, shape, layout in wanted:
        stride, shift = stride_of(layout, shape)
        plan.add(dtype, shape, stride, shift=shift)
    return plan


def in_memory(size: int) -> Arena:
    return Arena(torch.zeros(size, dtype=torch.uint8))


@pytest.fixture
def shared() -> Iterator[HostArena]:
    arena = HostArena(1 << 16)
    yield arena
    arena.close()


# ---- plans -------------------------------------------------------------------------------------


@given(st.lists(requests, max_size=8))
def test_slots_lie_apart_within_the_plan(
    wanted: list[tuple[torch.dtype, tuple[int, ...], Layout]],
) -> None:
    plan = planned(wanted)
    end = 0
    for (dtype, shape, layout), slot in zip(wanted, plan.slots, strict=True):
        assert slot.offset - end >= GUARD
        end = slot.offset + slot.extent
        shift = stride_of(layout, shape)[1] * dtype.itemsize
        assert (slot.offset - shift) % GUARD == 0
        assert (slot.dtype, slot.shape) == (name_of(dtype), shape)
    assert plan.size - end >= GUARD or not wanted
    assert plan.size % GUARD == 0


@given(st.lists(requests, max_size=6))
def test_guards_are_exactly_what_no_slot_holds(
    wanted: list[tuple[torch.dtype, tuple[int, ...], Layout]],
) -> None:
    plan = planned(wanted)
    owners = [0] * plan.size
    for slot in plan.slots:
        for byte in range(slot.offset, slot.offset + slot.extent):
            owners[byte] += 1
    for start, end in plan.guards():
        for byte in range(start, end):
            owners[byte] += 1
    assert set(owners) == {1}


@given(requests)
def test_a_slot_holds_every_element_of_its_tensor_and_no_more(
    wanted: tuple[torch.dtype, tuple[int, ...], Layout],
) -> None:
    dtype, shape, _ = wanted
    plan = planned([wanted])
    (slot,) = plan.slots
    arena = in_memory(plan.size)
    arena.poison_all(plan.size)
    view = arena.view(slot)
    assert (view.shape, view.dtype) == (torch.Size(shape), dtype)
    view.zero_()
    assert all(arena.is_poison(start, end) for start, end in plan.guards())
    if slot.extent:
        edges = [slot.offset, slot.offset + slot.extent - 1]
        assert not any(arena.is_poison(byte, byte + 1) for byte in edges)


@given(st.lists(requests, min_size=1, max_size=3), st.data())
def test_one_byte_in_a_guard_is_found(
    wanted: list[tuple[torch.dtype, tuple[int, ...], Layout]], data: st.DataObject
) -> None:
    plan = planned(wanted)
    flat = torch.full((plan.size,), POISON, dtype=torch.uint8)
    arena = Arena(flat)
    start, end = data.draw(st.sampled_from([g for g in plan.guards() if g[0] < g[1]]))
    flat[data.draw(st.integers(start, end - 1))] = data.draw(st.integers(0, POISON - 1))
    assert not all(arena.is_poison(a, b) for a, b in plan.guards())


@given(requests)
def test_a_slot_survives_the_wire(wanted: tuple[torch.dtype, tuple[int, ...], Layout]) -> None:
    (slot,) = planned([wanted]).slots
    assert Slot.from_wire(slot.to_wire()) == slot


@given(shapes)
def test_contiguous_strides_are_torch_s(shape: tuple[int, ...]) -> None:
    assert contiguous_stride(shape) == torch.empty(shape).stride()


@given(dtypes)
def test_dtypes_have_names_and_names_dtypes(dtype: torch.dtype) -> None:
    assert dtype_of(name_of(dtype)) is dtype


@pytest.mark.parametrize("name", ["", "float31", "nn", "Tensor", "load", "__name__"])
def test_what_is_no_dtype_s_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no dtype"):
        dtype_of(name)


# ---- views and poison --------------------------------------------------------------------------


@given(
    size=st.integers(0, 256),
    offset=st.integers(-64, 64).map(lambda n: 4 * n),
    shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    data=st.data(),
)
def test_views_outside_the_arena_are_refused_and_no_others(
    size: int, offset: int, shape: tuple[int, ...], data: st.DataObject
) -> None:
    stride = tuple(data.draw(st.integers(-2, 9)) for _ in shape)
    slot = Slot(offset, "float32", shape, stride)
    first = offset + 4 * sum(min(0, (n - 1) * s) for n, s in zip(shape, stride, strict=True))
    last = offset + 4 * sum(max(0, (n - 1) * s) for n, s in zip(shape, stride, strict=True)) + 4
    arena = in_memory(size)
    if min(stride, default=0) < 0 or first < 0 or last > size:
        with pytest.raises(ValueError, match="outside"):
            arena.view(slot)
    else:
        assert arena.view(slot).shape == shape


@pytest.mark.parametrize("offset", [-4, 68, 1 << 40])
def test_even_an_empty_view_lies_within_the_arena(offset: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        in_memory(64).view(Slot(offset, "float32", (0,), (1,)))
    assert in_memory(64).view(Slot(64, "float32", (3, 0), (1, 1))).numel() == 0


def test_a_slot_has_a_stride_for_every_dimension() -> None:
    with pytest.raises(ValueError):
        in_memory(64).view(Slot(0, "float32", (2, 2), (1,)))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d is not torch.bool], ids=name_of)
def test_poison_is_nan_or_a_number_that_shows(dtype: torch.dtype) -> None:
    plan = Plan()
    slot = plan.add(dtype, (3, 5))
    arena = in_memory(plan.size)
    arena.poison(slot)
    view = arena.view(slot)
    if dtype.is_floating_point:
        assert bool(view.isnan().all())
    else:
        assert bool((view == (255 if dtype is torch.uint8 else -1)).all())
    assert not any(arena.is_poison(start, end) for start, end in plan.guards())


# ---- shared memory -----------------------------------------------------------------------------


def test_a_second_process_sees_the_same_bytes_and_cannot_resize_them(shared: HostArena) -> None:
    shared.poison_all(shared.size)
    arena = torch.frombuffer(mmap.mmap(shared.fd, shared.size), dtype=torch.uint8)
    arena[:4] = torch.tensor(list(b"seen"), dtype=torch.uint8)
    said = children.run(MAP, shared.fd, shared.size, fds=shared.descriptors())
    refused, poison = map(int, said.split())
    assert refused == 3, "a worker that cuts the memory short would end the oracle"
    assert poison == shared.size - 8
    assert bytes(arena[-4:].tolist()) == b"back"
    assert shared.is_poison(4, shared.size - 4)
    assert not shared.is_poison(4, shared.size)


def test_a_worker_s_answer_is_there_when_it_has_written_it(shared: HostArena) -> None:
    plan = Plan()
    source = plan.add(torch.float32, (4, 6), stride_of(Layout.STRIDED, (4, 6))[0])
    target = plan.add(torch.float32, (4, 6), shift=1)
    shared.poison_all(plan.size)
    values = torch.randn(4, 6)
    shared.view(source).copy_(values)
    slots = json.dumps([source.to_wire(), target.to_wire()])
    children.run(ATTACH, shared.fd, shared.size, slots, fds=shared.descriptors())
    assert torch.equal(shared.view(target), values * 2)
    assert all(shared.is_poison(start, end) for start, end in plan.guards())


def test_an_arena_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'file'"):
        attach({"kind": "file", "size": 8}, [])


def test_the_memory_outlives_its_descriptor() -> None:
    arena = allocate(4096, cuda=False)
    assert isinstance(arena, HostArena)
    assert arena.handle() == {"kind": "host", "size": 4096}
    other = attach(arena.handle(), list(arena.descriptors()))
    arena.close()
    arena.poison_all(4096)
    assert other.is_poison(0, 4096)
