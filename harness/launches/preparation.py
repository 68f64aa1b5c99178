"""Builds the library that counts launches, once per installation: one small file, two seconds.

Does not: load it (see ``harness.forkserver``).
"""

from __future__ import annotations

from pathlib import Path

from harness import preparing
from harness.devices import cxx
from harness.errors import UsageError

_SOURCE = Path(__file__).parent / "native" / "launches.cpp"
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared")
_LIBRARY = "libkernel_harness_launches.so"


def prepare(root: Path) -> Path:
    """The library, built below ``root`` unless that was done before.

    Raises:
        UsageError: there is no C++ compiler.
        PreparationFault: the compiler failed.
    """
    compiler = cxx()
    if compiler is None:
        raise UsageError("a C++ compiler is needed; install g++ or set CXX")
    name = "launches-" + preparing.digest(
        [_SOURCE], _SOURCE.parent, preparing.version_of(compiler), *_FLAGS
    )

    def make(folder: Path) -> None:
        out = ["-o", str(folder / _LIBRARY), str(_SOURCE), "-ldl"]
        preparing.run([compiler, *_FLAGS, *out])

    return preparing.once(root, name, make) / _LIBRARY
