"""Where the files that come with the harness are: prompts, reference models, solutions.

In an installed wheel they lie inside the package, in a checkout beside it.

Does not: read them.
"""

from __future__ import annotations

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
