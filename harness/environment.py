"""What the processes that we start inherit from this one: no secrets, no import tricks.

Does not: start any.
"""

from __future__ import annotations

import os
from pathlib import Path


def clean_environment() -> dict[str, str]:
    """Of this process's variables those that tools and our settings need, and where we lie."""
    keep = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME")
    prefixes = ("CUDA_", "TORCH_CUDA_", "KERNEL_HARNESS_")
    environment = {k: v for k, v in os.environ.items() if k in keep or k.startswith(prefixes)}
    root = str(Path(__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([root, *([inherited] if inherited else [])])
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as the driver counts, so that N is GPU N
    environment["OPENBLAS_NUM_THREADS"] = "1"  # numpy's pool would start with the import
    return environment
