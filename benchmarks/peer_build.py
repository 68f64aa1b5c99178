"""KernelBench's parallel build of a batch, by itself: calls its ``batch_compile``.

    python peer_build.py CONFIG

CONFIG is a JSON file: the configuration that its ``eval_from_generations.py`` would pass with
``build_cache=True``, and ``work``, the pairs of problem and sample.

Does not: evaluate (its script does that afterwards), or import anything of ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    from kernelbench.compile import batch_compile  # type: ignore[import-not-found]

    config = json.loads(Path(sys.argv[1]).read_text())
    batch_compile([tuple(pair) for pair in config.pop("work")], config)
