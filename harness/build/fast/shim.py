"""Makes the headers that stand for torch's: ours, and torch's own with fewer includes.

torch includes one header per operator in ``ATen/ATen.h``, some 1300, and all of autograd in
``torch/types.h``. Here a unit gets the operators that it names, and of the factories of ``torch::``
(``torch::empty`` and its like) those that it names, cut out of torch's own header.

Does not: compile anything.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

HEADERS = Path(__file__).parent / "headers"
_FACTORIES = "torch/csrc/autograd/generated/variable_factories.h"
_HEAVY = re.compile(r"#include <ATen/(?:Context|DeviceGuard)\.h>\n")
"""What no operator's header needs itself, and what costs most."""
_PARTS = ("_ops", "_native", "_dispatch", "_meta")
_FUNCTION = re.compile(r"^inline [^\n(=;]*?\b(\w+)\(", re.MULTILINE)
_FACTORY = re.compile(r"^inline at::Tensor (\w+)\(.*?^\}$", re.MULTILINE | re.DOTALL)
_LIST_GUARD = re.compile(
    r"inline std::optional<Device> device_of\(ITensorListRef \w+\) \{.*?\n\}\n", re.DOTALL
)


@dataclass(frozen=True)
class Operators:
    """Which header declares a function of ``at::`` or a factory of ``torch::``."""

    functions: dict[str, str]
    factories: dict[str, str]

    def needed(self, names: set[str]) -> list[str]:
        """The headers of what is named."""
        headers = {self.functions[n] for n in names if n in self.functions}
        headers |= {self.factories[n] for n in names if n in self.factories}
        return sorted(headers)


def make(torch: Path, directory: Path) -> None:
    """Write the headers below ``directory``, from those of torch's ``include`` folder."""
    shutil.copytree(HEADERS, directory, dirs_exist_ok=True)
    functions = _operators(torch, directory)
    _device_guard(torch, directory)
    operators = Operators(functions, _factories(torch, directory, functions))
    (directory / "operators.json").write_text(json.dumps(vars(operators)))


def operators(directory: Path) -> Operators:
    """What ``make`` found out."""
    return Operators(**json.loads((directory / "operators.json").read_text()))


def _operators(torch: Path, directory: Path) -> dict[str, str]:
    functions = {}
    folder = directory / "ATen" / "ops"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (torch / "ATen" / "ops").glob("*.h"):
        if path.stem.endswith(_PARTS):
            continue
        text = path.read_text()
        (folder / path.name).write_text(_HEAVY.sub("", text))
        for name in {path.stem, *_FUNCTION.findall(text)}:
            functions[name] = f"ATen/ops/{path.name}"
    return functions


def _factories(torch: Path, directory: Path, functions: dict[str, str]) -> dict[str, str]:
    folder = directory / "kernel_harness" / "factories"
    folder.mkdir(parents=True, exist_ok=True)
    text = (torch / _FACTORIES).read_text().partition("namespace torch {")[2]
    found: dict[str, list[str]] = {}
    for match in _FACTORY.finditer(text):
        body = match[0].replace("autograd::make_variable(", "::kernel_harness::fresh(")
        found.setdefault(match[1], []).append(body)
    for name, bodies in found.items():
        operator = functions.get(name, functions.get(name.removesuffix("_symint"), ""))
        includes = [operator] if operator else []
        if name == "tensor":
            includes.append("torch/csrc/api/include/torch/detail/TensorDataContainer.h")
        lines = ["#pragma once", *(f"#include <{i}>" for i in includes)]
        lines += ["namespace torch {", *bodies, "}"]
        (folder / f"{name}.h").write_text("\n".join(lines) + "\n")
    return {name: f"kernel_harness/factories/{name}.h" for name in found}


def _device_guard(torch: Path, directory: Path) -> None:
    """``at::device_of``, without the overload for lists, which needs all types of the JIT."""
    text = (torch / "ATen" / "DeviceGuard.h").read_text()
    slim, cut = _LIST_GUARD.subn("", text)
    if cut == 1:
        slim = slim.replace("#include <ATen/core/IListRef.h>\n", "")
    (directory / "ATen" / "DeviceGuard.h").write_text(slim)
