"""Builds the library that counts launches, once per installation: three small files, a few seconds.

Does not: load it (see ``harness.forkserver``).
"""

from __future__ import annotations

from pathlib import Path

from harness import preparing
from harness.devices import cxx
from harness.errors import UsageError

_NATIVE = Path(__file__).parent / "native"
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
    files = sorted(path for path in _NATIVE.iterdir() if path.is_file())
    name = "launches-" + preparing.digest(files, _NATIVE, preparing.version_of(compiler), *_FLAGS)

    def make(folder: Path) -> None:
        sources = [str(path) for path in files if path.suffix == ".cpp"]
        exports = f"-Wl,--version-script={_NATIVE / 'exports.map'}"
        out = str(folder / _LIBRARY)
        preparing.run([compiler, *_FLAGS, *sources, exports, "-o", out, "-ldl"])

    return preparing.once(root, name, make) / _LIBRARY
