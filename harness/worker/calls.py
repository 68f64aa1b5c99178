"""Runs the model on tensors of the arena, forward and backward, and writes the answers there.

Does not: compare, or keep anything from one trial to the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from harness.arena import POISON, Slot, last_error, name_of
from harness.emulation import device as emulated
from harness.wire import Message
from harness.worker import trees
from harness.worker.candidate import Candidate, parameters_of, state_of
from harness.worker.memory import Mapped

_differentiate = torch.autograd.grad
"""As it was before a candidate was imported."""


class Call:
    """One trial's tensors: the inputs, what requires a gradient, and the outputs."""

    def __init__(self, candidate: Candidate, memory: Mapped, device: torch.device) -> None:
        self._candidate = candidate
        self._memory = memory
        self._device = device
        self._leaves: list[torch.Tensor] = []
        self._outputs: list[tuple[str, torch.Tensor]] = []
        self._cotangents: list[torch.Tensor] = []
        self._side: torch.cuda.Stream | None = None

    @contextlib.contextmanager
    def stream(self, *, side: bool) -> Iterator[None]:
        """Run on a side stream, the same for forward and backward, or on the current one."""
        if self._device.type != "cuda" or not side:
            yield
            return
        late = self._side = self._side or torch.cuda.Stream()
        late.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(late):
            yield
        torch.cuda.current_stream().wait_stream(late)

    def inputs(self, encoded: Any, wanted: list[bool], *, delayed: bool) -> Any:
        """The forward's arguments; ``wanted`` says which tensors require a gradient, in order."""
        self._leaves = []

        def leaf(wire: Any) -> torch.Tensor:
            slot = Slot.from_wire(wire)
            view = self._memory.late_tensor(slot) if delayed else self._memory.tensor(slot)
            # ``data`` has a version counter of its own; ``detach`` would share the arena's, and
            # an output written there would look like an input changed in place.
            tensor = view.data
            if wanted[len(self._leaves)]:
                tensor.requires_grad_(True)
            self._leaves.append(tensor)
            return tensor

        return trees.decode(encoded, leaf)

    def forward(self, args: Any, *, gradients: bool) -> None:
        """Call the model."""
        model = self._candidate.model
        if model is None:
            raise RuntimeError("no model has been made")
        with torch.set_grad_enabled(gradients):
            self._outputs = trees.flatten(model(*args))

    def write_outputs(self, slots: list[Any], buffers: dict[str, Any]) -> Message:
        """Copy what came out into the arena, and say what it is."""
        for (_, tensor), slot in zip(self._outputs, slots, strict=False):
            self._write(tensor, slot)
        state = state_of(self._candidate.model)
        for name, slot in buffers.items():
            self._write(state[name], slot)
        self._memory.give_back()
        return {"outputs": [_facts(path, tensor) for path, tensor in self._outputs]}

    def backward(
        self, cotangents: list[Any], parameters: list[str], *, delayed: bool = False
    ) -> dict[str, Any]:
        """Gradients of the wanted leaves (by index) and parameters (by name)."""
        tensor_at = self._memory.late_tensor if delayed else self._memory.tensor
        named = parameters_of(self._candidate.model)
        leaves = [(str(i), t) for i, t in enumerate(self._leaves) if t.requires_grad]
        wanted = leaves + [(name, named[name]) for name in parameters]
        pairs = [
            (tensor, tensor_at(Slot.from_wire(slot)).data)
            for (_, tensor), slot in zip(self._outputs, cotangents, strict=True)
            if slot is not None and tensor.requires_grad
        ]
        self._cotangents = [g for _, g in pairs]  # late ones may be written when all is done
        if not pairs:
            return {name: None for name, _ in wanted}
        found = _differentiate(
            [t for t, _ in pairs],
            [t for _, t in wanted],
            self._cotangents,
            allow_unused=True,
        )
        return {name: g for (name, _), g in zip(wanted, found, strict=True)}

    def write_gradients(self, gradients: dict[str, Any], slots: dict[str, Any]) -> Message:
        """Copy the gradients into the arena, and say which there are."""
        facts = {}
        for name, gradient in gradients.items():
            facts[name] = None if gradient is None else _facts(name, gradient)
            if gradient is not None:
                self._write(gradient, slots[name])
        self._memory.give_back()
        return {"gradients": facts}

    def forget(self) -> None:
        """Drop the graph, and leave poison where the outputs were."""
        sizes = [t.numel() * t.element_size() for _, t in self._outputs]
        self._outputs, self._leaves, self._cotangents = [], [], []
        scrub(sizes, self._device)

    def _write(self, tensor: torch.Tensor, slot: Any) -> None:
        self._memory.write(tensor, Slot.from_wire(slot))


def scrub(sizes: list[int], device: torch.device) -> None:
    """Fill the blocks that the allocator would hand out next with poison.

    An output that a kernel never writes then holds NaN, not the right answer of
    an earlier call. ``sizes`` are bytes.
    """
    blocks = [torch.empty(size, dtype=torch.uint8, device=device) for size in sizes if size]
    for block in blocks:
        block.fill_(POISON)


def raise_launch_error(device: torch.device) -> None:
    """Report what a launch that nobody checked has left behind.

    Raises:
        RuntimeError: a kernel was not launched.
    """
    if device.type != "cuda":
        return
    left = emulated.last_error() if emulated.is_loaded() else last_error()
    if left is not None:
        raise RuntimeError(f"CUDA error left behind by a launch that was not checked: {left}")


def _facts(path: str, tensor: torch.Tensor) -> Message:
    return {
        "path": path,
        "shape": list(tensor.shape),
        "dtype": name_of(tensor.dtype),
        "device": tensor.device.type,
        "requires_grad": bool(tensor.requires_grad),
    }
