"""A call's tensors: in the arena itself, or on the emulated device, copied from it and back.

Does not: know what the tensors are for.
"""

from __future__ import annotations

import torch

from harness.arena import GUARD, Arena, Slot, dtype_of
from harness.emulation import device as emulated

_copy, _detach = torch.Tensor.copy_, torch.Tensor.detach
"""As they were before a candidate was imported: an object may carry methods of its own."""
DELAY_CYCLES = 20_000_000
"""How long a delayed producer holds the stream back: about 10 ms at 2 GHz."""


class Mapped:
    """The arena's memory is the device's memory."""

    def __init__(self, arena: Arena, device: torch.device) -> None:
        self._arena = arena
        self._device = device

    def tensor(self, slot: Slot) -> torch.Tensor:
        """The tensor at a slot."""
        return self._arena.view(slot)

    def late_tensor(self, slot: Slot) -> torch.Tensor:
        """A copy that is made late, on the current stream: who does not wait reads poison."""
        made = self._arena.view(slot)
        late = torch.empty_strided(made.shape, made.stride(), dtype=made.dtype, device=self._device)
        poison(late)
        torch.cuda.synchronize()
        torch.cuda._sleep(DELAY_CYCLES)
        return late.copy_(made)

    def write(self, tensor: torch.Tensor, slot: Slot) -> None:
        """Copy an answer into the arena, if it has the form that is expected there."""
        view = self._arena.view(slot)
        if tensor.shape == view.shape and tensor.dtype == view.dtype:
            _copy(view, _detach(tensor))

    def give_back(self) -> None:
        """Leave in the arena what the candidate has left of its inputs."""


class Copied(Mapped):
    """The emulated device has memory of its own: every tensor ends at a guard page there."""

    def __init__(self, arena: Arena, device: torch.device) -> None:
        super().__init__(arena, device)
        self._copies: list[tuple[Slot, torch.Tensor]] = []
        self._sources: list[torch.Tensor] = []

    def tensor(self, slot: Slot) -> torch.Tensor:
        """A copy with the slot's strides and alignment."""
        flat, made = self._room(slot)
        flat.copy_(self._flat(slot))
        self._copies.append((slot, made))
        return made

    def late_tensor(self, slot: Slot) -> torch.Tensor:
        """A copy that is made when work on the current stream is reached, and not before."""
        flat, made = self._room(slot)
        source = self._flat(slot).clone()
        self._sources.append(source)  # the device reads it later
        emulated.produce_late(flat.data_ptr(), source.data_ptr(), slot.extent)
        return made

    def give_back(self) -> None:
        """Copy the inputs back, changed or not, so that the oracle can see."""
        for slot, tensor in self._copies:
            if 0 not in slot.stride:
                self._arena.view(slot).copy_(tensor)

    def _flat(self, slot: Slot) -> torch.Tensor:
        elements = slot.extent // dtype_of(slot.dtype).itemsize
        return self._arena.view(Slot(slot.offset, slot.dtype, (elements,), (1,)))

    def _room(self, slot: Slot) -> tuple[torch.Tensor, torch.Tensor]:
        """Room on the device as flat run of elements, and as the tensor that lies in it."""
        dtype = dtype_of(slot.dtype)
        shift = slot.offset % GUARD // dtype.itemsize
        elements = slot.extent // dtype.itemsize
        room = torch.empty(shift + elements, dtype=dtype, device=self._device)
        made = room.as_strided(slot.shape, slot.stride, shift if elements else 0)
        return room[shift:], made


def poison(tensor: torch.Tensor) -> None:
    """Fill a tensor with NaN, or with what stands out where there is none."""
    if tensor.is_floating_point() or tensor.is_complex():
        tensor.fill_(float("nan"))
    else:
        tensor.fill_(-1 if tensor.dtype is not torch.bool else True)
