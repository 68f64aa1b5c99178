"""Writes and builds an extension for the emulated device: CUDA C++ made C++, compiled by GCC.

The units are those of a stock build, line for line, so that messages keep their lines. What
a stock build takes from torch's headers comes precompiled here; a unit that needs more than
that is compiled again with all of them.

Does not: decide what can be emulated (see ``harness.emulation.constructs``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.build import units
from harness.build.spec import ExtensionSpec
from harness.devices import cxx
from harness.emulation import dialect
from harness.emulation.preparation import (
    DECLARATION_FLAGS,
    KERNEL_FLAGS,
    LIBRARY,
    NATIVE,
    include_flags,
    machine_flags,
    torch_libraries,
)

_KEPT = re.compile(r"-[DUI]\S*$")
"""Flags of a candidate that mean the same to GCC; all others are nvcc's, or about speed."""
_WANTS_ALL_HEADERS = re.compile(
    r"[‘'](?:torch|at|c10|py|pybind11|std)(?:::[\w:]*)?[’']|No such file"
)
_AUTOGRAD = re.compile(r"\btorch::autograd\b|\bAutograd\w*Guard\b|\bNoGradGuard\b")


@dataclass(frozen=True)
class Translated:
    """One translation unit as GCC compiles it."""

    name: str
    """File name of the unit in a stock build."""
    text: str
    prefix: str
    """The header that is included before it."""

    @property
    def object(self) -> str:
        """File name of what the compiler makes."""
        return f"{self.name}.o"


def translate(spec: ExtensionSpec) -> list[Translated]:
    """The units of a spec, rewritten.

    Raises:
        dialect.Untranslatable: a launch or a declaration cannot be rewritten.
    """
    return [_translated(unit) for unit in units.of(spec)]


def write(spec: ExtensionSpec, made: Sequence[Translated], directory: Path, prepared: Path) -> None:
    """Write the units and ``build.ninja`` into a directory."""
    for name, text in units.headers(spec):
        (directory / name).write_text(dialect.rewrite(text))
    for unit in made:
        (directory / f"{unit.name}.cpp").write_text(unit.text)
    (directory / "build.ninja").write_text(_ninja(spec, made, prepared))


def with_all_headers(made: Sequence[Translated], log: str) -> list[Translated] | None:
    """The units again, with torch's full headers, where a failed build may have lacked them."""
    if not _WANTS_ALL_HEADERS.search(log):
        return None
    return [replace(unit, prefix="full.h") for unit in made]


def _translated(unit: units.Unit) -> Translated:
    cuda = unit.name.endswith(".cu")
    text = dialect.rewrite(unit.text) if cuda else unit.text
    before, binds, _ = unit.text.partition("PYBIND11_MODULE")
    prefix = "code.h" if not binds else "bindings.h" if cuda or "{" in before else "declarations.h"
    line = 1 + len(unit.implicit)  # messages count as in a stock build
    more = '#include "autograd.h"\n' if _AUTOGRAD.search(text) and prefix != "full.h" else ""
    return Translated(unit.name, f'{more}#line {line} "{unit.name}"\n{text}\n', prefix)


def _ninja(spec: ExtensionSpec, made: Sequence[Translated], prepared: Path) -> str:
    flags = [
        f"-DTORCH_EXTENSION_NAME={spec.name}",
        *(f for f in (*spec.extra_cflags, *spec.extra_cuda_cflags) if _KEPT.match(f)),
        *(f"-I{path}" for path in spec.extra_include_paths),
        "-I.",
    ]
    lines = [
        f"cxx = {cxx()}",
        f"flags = {_escape(flags)}",
        "rule compile",
        "  command = $cxx $options $prefix $includes $flags -c $in -o $out",
        "rule link",
        "  command = $cxx -shared $in -o $out $libraries",
    ]
    for unit in made:
        slim = unit.prefix != "full.h"
        light = unit.prefix == "declarations.h"
        options = DECLARATION_FLAGS if light else (*KERNEL_FLAGS, *machine_flags())
        includes = [*([f"-I{NATIVE / 'slim'}"] if slim else []), *include_flags()]
        lines += [
            f"build {unit.object}: compile {unit.name}.cpp",
            f"  options = {_escape(options)}",
            f"  prefix = -include {_escape([str(prepared / unit.prefix)])}",
            f"  includes = {_escape(includes)}",
        ]
    libraries = [
        *(f"-L{prepared}", f"-l:{LIBRARY}"),
        *(f"-L{torch_libraries()}", "-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"),
        *(f for f in spec.extra_ldflags if not re.match(r"-l(cu|nv)", f)),
    ]
    lines += [
        f"build {spec.name}.so: link {' '.join(u.object for u in made)}",
        f"  libraries = {_escape(libraries)}",
    ]
    return "\n".join(lines) + "\n"


def _escape(words: Iterable[str]) -> str:
    """For ninja and for the shell that it runs."""
    return " ".join("'" + w.replace("$", "$$").replace("'", "'\\''") + "'" for w in words)
