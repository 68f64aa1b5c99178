"""Arguments on the wire: nested Python values whose tensors are slots of an arena.

Does not: pickle. A value that has no form here is refused by ``encode``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.arena import dtype_of, name_of

Encoded = Any


def encode(value: Any, tensor: Callable[[torch.Tensor], Encoded]) -> Encoded:
    """``value`` as JSON; ``tensor`` says how a tensor is written.

    Raises:
        TypeError: there is no form for a part of it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        return {"tensor": tensor(value)}
    if isinstance(value, torch.Size | tuple):
        return {"tuple": [encode(v, tensor) for v in value]}
    if isinstance(value, list):
        return [encode(v, tensor) for v in value]
    if isinstance(value, dict):
        return {"dict": [[encode(k, tensor), encode(v, tensor)] for k, v in value.items()]}
    if isinstance(value, torch.dtype):
        return {"dtype": name_of(value)}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    raise TypeError(f"a {type(value).__name__} cannot be handed to another process")


def decode(encoded: Encoded, tensor: Callable[[Any], torch.Tensor]) -> Any:
    """The value that ``encode`` wrote; ``tensor`` makes a tensor of its encoding.

    Raises:
        ValueError: it is not something that ``encode`` writes.
    """
    if encoded is None or isinstance(encoded, bool | int | float | str):
        return encoded
    if isinstance(encoded, list):
        return [decode(v, tensor) for v in encoded]
    if isinstance(encoded, dict) and len(encoded) == 1:
        ((kind, body),) = encoded.items()
        if kind == "tensor":
            return tensor(body)
        if kind == "tuple":
            return tuple(decode(v, tensor) for v in body)
        if kind == "dict":
            return {decode(k, tensor): decode(v, tensor) for k, v in body}
        if kind == "dtype":
            return dtype_of(body)
        if kind == "device":
            return torch.device(body)
    raise ValueError("not an encoded value")


_PLAIN = torch.Tensor, torch.nn.Parameter


def flatten(value: Any, path: str = "output") -> list[tuple[str, torch.Tensor]]:
    """Every tensor of a nested value with its path: ``output``, ``output[1]``, ``output['a']``.

    Raises:
        TypeError: a leaf is neither a tensor nor a plain value. Subclasses of tensors are none:
            they can compute when they are read.
    """
    if type(value) in _PLAIN:
        return [(path, value)]
    if isinstance(value, list | tuple):
        return [leaf for i, v in enumerate(value) for leaf in flatten(v, f"{path}[{i}]")]
    if isinstance(value, dict):
        return [leaf for k, v in value.items() for leaf in flatten(v, f"{path}[{k!r}]")]
    if value is None or isinstance(value, bool | int | float | str):
        return []
    raise TypeError(f"{path} is a {type(value).__name__}, not a tensor")
