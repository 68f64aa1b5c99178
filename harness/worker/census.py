"""Lists the operators of PyTorch that a call goes through, as evidence for rule R04.

Sees what goes through the dispatcher: operators called from Python and ``at::``
operators called from C++. Does not see kernels that are launched directly, and
a hostile candidate can hide from it: the list is evidence, not proof.
"""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Census(TorchDispatchMode):
    """Collects the names of the operators that run while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do not have torch guard the mode against its compiler: that import takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note the operator and carry it out."""
        del types
        self.names.add(str(func.name()))
        return func(*args, **(kwargs or {}))
