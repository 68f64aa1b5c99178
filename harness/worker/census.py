"""Lists the operators of PyTorch that a call goes through, as evidence for rule R04.

Two witnesses, of two runs: a dispatch mode sees what the dispatcher is asked for, from
Python and from C++; the profiler's callbacks see operators within operators as well, and those of
who keeps out of the mode's way. Neither sees kernels that are launched directly or other
threads, and a hostile candidate can silence both: the list is evidence, not proof.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import profiler_legacy
from torch.utils._python_dispatch import TorchDispatchMode

TO_THE_HOST = "host::copy"
"""Stands for any operator that reads a tensor of the device and makes one of the host's."""


class Census(TorchDispatchMode):
    """Collects the operators that run while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: dict[str, int] = {}
        """By name, the elements of all tensors that came out: pieces count as what they make."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do not have torch guard the mode against its compiler: that import takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Carry the operator out and note it."""
        del types
        name, made = str(func.name()), func(*args, **(kwargs or {}))
        self._note(name, 0)  # also what returns nothing
        on_device = any(isinstance(a, torch.Tensor) and a.device.type != "cpu" for a in args)
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                self._note(name, tensor.numel())
                if on_device and tensor.device.type == "cpu":
                    self._note(TO_THE_HOST, tensor.numel())
        return made

    def _note(self, name: str, size: int) -> None:
        self.sizes[name] = size + self.sizes.get(name, 0)


def witnessed(run: Callable[[], object]) -> set[str]:
    """The operators that the profiler sees while ``run`` runs, nested ones included."""
    with profiler_legacy.profile() as profile:
        run()
    return {str(event.name) for event in profile.function_events if "::" in event.name}
