"""Loads the candidate's module and makes its model.

Does not: call the model (see ``calls``), or judge what it is.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from harness.arena import Arena, Slot, dtype_of, name_of
from harness.wire import Message
from harness.worker import trees

MODULE = "candidate"


class Candidate:
    """One imported candidate, and the model made of it last."""

    def __init__(self, source: str, entry: str, directory: Path, device: torch.device) -> None:
        self.path = str(directory / f"{MODULE}.py")
        self._source = source
        self._entry = entry
        self._device = device
        self._module: ModuleType | None = None
        self.model: nn.Module | None = None

    def load(self) -> Message:
        """Execute the module; it is a real file, since Triton and ``inspect`` want one."""
        Path(self.path).write_text(self._source)
        spec = importlib.util.spec_from_file_location(MODULE, self.path)
        if spec is None or spec.loader is None:
            raise ImportError("the candidate cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[MODULE] = module
        spec.loader.exec_module(module)
        self._module = module
        entry = getattr(module, self._entry, None)
        return {"entry": isinstance(entry, type) and issubclass(entry, nn.Module)}

    def construct(
        self, args: Any, kwargs: Any, *, training: bool, dtype: str | None = None
    ) -> Message:
        """Make a model and report its state: names, shapes and dtypes."""
        entry = getattr(self._module, self._entry)
        self.model = None
        self.model = entry(
            *trees.decode(args, _literal_tensor), **trees.decode(kwargs, _literal_tensor)
        )
        self.model.to(self._device, None if dtype is None else dtype_of(dtype))
        self.model.train(training)
        return {"state": _manifest(self.model), "training": bool(self.model.training)}

    def compile(self) -> Message:
        """Put ``torch.compile`` around the model (for the compiled baseline only)."""
        self.model = torch.compile(self.model)  # type: ignore[assignment]
        return {}

    def write_weights(self, arena: Arena, slots: dict[str, Any]) -> Message:
        """Copy parameters and buffers from the arena into the model, by name."""
        state = state_of(self.model)
        with torch.no_grad():
            for name, slot in slots.items():
                state[name].copy_(arena.view(Slot.from_wire(slot)))
        return {}


def state_of(model: nn.Module | None) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name, without torch.compile's prefix."""
    if model is None:
        raise RuntimeError("no model has been made")
    state = model.state_dict(keep_vars=True)
    return {name.removeprefix("_orig_mod."): tensor for name, tensor in state.items()}


def parameters_of(model: nn.Module | None) -> dict[str, nn.Parameter]:
    """Parameters by name, without torch.compile's prefix."""
    if model is None:
        raise RuntimeError("no model has been made")
    return {name.removeprefix("_orig_mod."): p for name, p in model.named_parameters()}


def _manifest(model: nn.Module) -> list[Message]:
    parameters = parameters_of(model)
    return [
        {
            "name": name,
            "shape": list(tensor.shape),
            "dtype": name_of(tensor.dtype),
            "parameter": name in parameters,
            "requires_grad": bool(tensor.requires_grad),
        }
        for name, tensor in state_of(model).items()
    ]


def _literal_tensor(body: Any) -> torch.Tensor:
    return torch.tensor(body["values"], dtype=dtype_of(body["dtype"])).reshape(body["shape"])
