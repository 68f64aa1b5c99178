"""Prints the commands that torch would compile an extension with: ``python -m … DIRECTORY``.

Run by the preparation in a process of its own, since it imports torch. The spec comes on standard
input; ``TORCH_CUDA_ARCH_LIST`` is the caller's.

Does not: compile.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness.build import box
from harness.build.fast import commands
from harness.build.spec import ExtensionSpec


def main(directory: Path) -> None:
    """Write the sources and ``build.ninja`` of a spec; print its compilations."""
    spec = ExtensionSpec.model_validate_json(sys.stdin.read())
    box.write_ninja(spec, directory, box.write_sources(spec, directory))
    print(json.dumps([vars(c) for c in commands.compiles(directory)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
