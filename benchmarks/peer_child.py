"""One evaluation by KernelBench in a process of its own: what it said, and seconds by stage.

    python peer_child.py REFERENCE CANDIDATE BUILD_DIR ARCHITECTURE OUT

Calls its ``eval_kernel_against_ref`` with what its own scripts pass by default. Its function
that builds and loads a candidate is wrapped to be timed, and otherwise unchanged.

Does not: import anything of ours.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

CORRECTNESS_TRIALS, PERFORMANCE_TRIALS = 5, 100
"""The defaults of its scripts."""


def main(reference: str, candidate: str, build_dir: str, architecture: str, out: str) -> None:
    """Evaluate and write the result."""
    begun = time.perf_counter()
    import torch
    from kernelbench import eval as peer  # type: ignore[import-not-found]
    from kernelbench.utils import set_gpu_arch  # type: ignore[import-not-found]

    imported = time.perf_counter()
    build_seconds = 0.0
    load = peer.load_custom_model

    def timed_load(*arguments: Any, **options: Any) -> Any:
        nonlocal build_seconds
        started = time.perf_counter()
        try:
            return load(*arguments, **options)
        finally:
            build_seconds += time.perf_counter() - started

    peer.load_custom_model = timed_load
    set_gpu_arch([architecture])
    started = time.perf_counter()
    result = peer.eval_kernel_against_ref(
        original_model_src=Path(reference).read_text(),
        custom_model_src=Path(candidate).read_text(),
        num_correct_trials=CORRECTNESS_TRIALS,
        num_perf_trials=PERFORMANCE_TRIALS,
        measure_performance=True,
        build_dir=build_dir,
        device=torch.device("cuda:0"),
        backend="cuda",
        precision=torch.float32,
    )
    total = time.perf_counter() - started
    record = {
        "import": imported - begun,
        "build": build_seconds,
        "check": total - build_seconds,
        "compiled": bool(result and result.compiled),
        "correct": bool(result and result.correctness),
        "runtime": result.runtime if result else None,
        "reference_runtime": result.ref_runtime if result else None,
        "metadata": {k: str(v)[:400] for k, v in result.metadata.items()} if result else {},
    }
    Path(out).write_text(json.dumps(record))


if __name__ == "__main__":
    main(*sys.argv[1:])
