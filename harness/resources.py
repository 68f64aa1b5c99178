"""Where the files that come with the harness are: prompts, reference models, solutions.

In an installed wheel they lie inside the package, in a checkout beside it.

Does not: read them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from harness.errors import HarnessFault

_PACKAGE = Path(__file__).resolve().parent


def bundled(name: Literal["prompts", "reference_models", "solutions"]) -> Path:
    """The folder of that name that belongs to this installation.

    The packaged folder comes first: beside an installed package lies ``site-packages``,
    where a folder called ``prompts`` would be somebody else's.
    """
    packaged, checkout = _PACKAGE / "_bundled" / name, _PACKAGE.parent / name
    for folder in (packaged, checkout):
        if folder.is_dir():
            return folder
    raise HarnessFault(
        f"this installation has no {name}: neither {packaged} nor {checkout} is a folder; "
        "install kernel-harness again"
    )


def answers() -> list[Path]:
    """Every folder with solutions or references that came with the harness, wherever it was put.

    An editable installation has them twice, in the checkout and beside other packages; and an
    environment may lie in another checkout than the one that runs.
    """
    entries = [_PACKAGE.parent, *(Path(entry).absolute() for entry in sys.path if entry)]
    roots = {root for entry in entries for root in (entry, *entry.parents)}
    places = [root / "harness" / "_bundled" for root in roots]
    places += [root for root in roots if (root / "harness" / "forkserver.py").is_file()]
    found = {
        (place / name).resolve() for place in places for name in ("solutions", "reference_models")
    }
    return sorted(folder for folder in found if folder.is_dir())
