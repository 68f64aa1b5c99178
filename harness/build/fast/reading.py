"""Reads a translation unit: whether the headers that stand for torch's will do, and which it needs.

A name that is missing fails to compile and is built the stock way. What is looked for here is
the rest: whatever would compile either way and mean something else, and what is known to fail.

Does not: parse C++; where a text leaves a doubt, the unit is built the stock way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.build.fast.shim import Operators
from harness.build.units import Unit

_WORD = re.compile(r"[A-Za-z_]\w*")
_CALLED = re.compile(
    r"::\s*(?:template\s+)?([A-Za-z_]\w*)|(?<!->)(?<![.\w])([A-Za-z_]\w*)\s*(?=\()"
)
"""Names that are qualified, or called; not methods, which every tensor has."""
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)[>\"]", re.MULTILINE)
_OTHER_DIRECTIVE = re.compile(
    r"^[ \t]*#[ \t]*(?!include\b|pragma\b|error\b|warning\b)\w", re.MULTILINE
)
_ONLY_INCLUDES = re.compile(r"(?:\s|#[ \t]*include[^\n]*|#[ \t]*pragma[ \t]+once)*")
_TORCH = re.compile(r"(?:torch|ATen|c10)/")
_TYPES = ("torch/types.h", "torch/all.h")
_EXTENSION = ("torch/extension.h", "torch/torch.h")

_ELSEWHERE = re.compile(
    r"\bautograd\b|\btorch::"
    r"(?:nn|optim|jit|serialize|data|special|linalg|fft|save|load|library|class_)\b"
)
"""Parts of torch that no stand-in has."""
_PYTHON = re.compile(r"\bpybind11\b|\bpy::|\bPy[A-Z]\w+")
_EXTRA = {
    "ATen/TensorIndexing.h": re.compile(
        r"\bindexing\b|\bTensorIndex\b|\bSlice\b|(?:\.|->)\s*index(?:_put_?)?\s*\("
    ),
    "ATen/Context.h": re.compile(r"\bglobalContext\b"),
}


@dataclass(frozen=True)
class Reading:
    """What a unit needs."""

    headers: tuple[str, ...] = ()
    """Of the operators and factories that it names."""
    stock: str | None = None
    """Why it is built the stock way."""


def read(
    unit: Unit, included: Iterable[str], operators: Operators, macros: Mapping[str, frozenset[str]]
) -> Reading:
    """Read a unit and the texts of the candidate's own headers.

    ``macros`` are those that torch defines and the stand-ins do not, or not in the same way, by
    the torch header that a unit includes: ``bindings`` for C++, ``types`` and ``extension`` for
    CUDA.
    """
    cuda = unit.name.endswith(".cu")
    text = "\n".join([unit.text, *included])
    base = _base(unit, cuda)
    if base is None:
        return Reading(stock="does not begin with torch's header")
    if (found := _ELSEWHERE.search(text)) is not None:
        return Reading(stock=f"names {found[0]}")
    if cuda and (found := _PYTHON.search(text)) is not None:
        return Reading(stock=f"names {found[0]} in a CUDA source")
    if (header := _late_include(unit.text)) is not None:
        return Reading(stock=f"includes {header} after a directive")
    if hidden := macros[base].intersection(_WORD.findall(text)):
        return Reading(stock=f"names {min(hidden)}")
    names = {first or second for first, second in _CALLED.findall(text)}
    extra = [header for header, needs in _EXTRA.items() if needs.search(text)]
    return Reading(headers=(*extra, *operators.needed(names)))


def _base(unit: Unit, cuda: bool) -> str | None:
    """Which of torch's headers a unit begins with; none where that is unclear."""
    text = "\n".join([*unit.implicit, _COMMENT.sub(" ", unit.text)])
    names = _INCLUDE.findall(text)
    extension = any(n in _EXTENSION for n in names)
    wanted = _TYPES + _EXTENSION if cuda else _EXTENSION
    first = next((m for m in _INCLUDE.finditer(text) if m[1] in wanted), None)
    if first is None or _ONLY_INCLUDES.fullmatch(text[: first.start()]) is None:
        return None
    return "bindings" if not cuda else "extension" if extension else "types"


def _late_include(text: str) -> str | None:
    """A header of torch after the first directive that is no include.

    The stand-ins may not have parsed it yet, and a macro could reach into it.
    """
    text = _COMMENT.sub(" ", text)
    first = _OTHER_DIRECTIVE.search(text)
    if first is None:
        return None
    late = (m[1] for m in _INCLUDE.finditer(text, first.end()))
    return next(
        (name for name in late if _TORCH.match(name) and name not in _TYPES + _EXTENSION), None
    )
