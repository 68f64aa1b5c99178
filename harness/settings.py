"""What can be set: limits, folders, the clock's budget. Environment over defaults.

Every field ``x`` can be set by the variable ``KERNEL_HARNESS_X``.

Does not: hold the terms of a judgement (see ``records.Policy``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _cache_home(name: str = "kernel-harness") -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / name


def _prepared_home() -> Path:
    return _cache_home("kernel-harness-prepared")


def _build_jobs() -> int:
    """By the cores that this process may use, which can be fewer than the host has."""
    if hasattr(os, "sched_getaffinity"):
        return max(2, len(os.sched_getaffinity(0)) // 2)
    return max(2, (os.cpu_count() or 2) // 2)


class Settings(BaseSettings):
    """Limits and places of one harness."""

    model_config = SettingsConfigDict(
        env_prefix="KERNEL_HARNESS_", frozen=True, use_attribute_docstrings=True
    )

    cache_dir: Path = Field(default_factory=_cache_home)
    """Where artifacts and baselines are kept; candidates never see it."""
    prepared_dir: Path = Field(default_factory=_prepared_home)
    """Where the emulated device and precompiled headers are kept; candidates may read it."""
    text_bytes: int = 1 << 20
    """Longest raw answer that is read, as UTF-8."""
    text_seconds: float = 20.0
    """Processor time of extracting a candidate, of screening it, and of looking through each
    extension's sources for what is not emulated."""
    text_memory_bytes: int = 2 << 30
    """Memory that each of them may take."""
    build_seconds: float = 600.0
    """Time limit of one extension's build."""
    load_seconds: float = 60.0
    """Time limit of importing a candidate, builds not counted."""
    call_seconds: float = 30.0
    """Time limit of one construction, forward or backward."""
    stage_seconds: float = 300.0
    """Time limit of all trials of a candidate together, and of clocking it."""
    memory_bytes: int = 16 << 30
    """Host memory that the processes of one candidate may hold together."""
    build_memory_bytes: int = 16 << 30
    """The same for the compilers of one extension; PyTorch's headers alone take some 3 GiB."""
    processes: int = 512
    """Processes and threads' processes that one candidate may have at a time."""
    require_sandbox: Literal["limits", "landlock", "namespaces"] = "limits"
    """Weakest level of the sandbox at which candidates are run; ``doctor`` shows what is there."""
    file_bytes: int = 1 << 30
    """Largest file that a candidate may write."""
    output_bytes: int = 64 << 10
    """How much of a candidate's standard output and error is kept; the rest is discarded."""
    clock_seconds: float = 1.5
    """Longest time spent on clocking one mode; it ends sooner once the interval is narrow."""
    clock_precision: float = 0.003
    """Half-width of the 95 % interval of the speedup at which clocking stops."""
    clock_turns: int = 8
    """Fewest pairs of turns, unless the time is up."""
    build_without_gpu: bool = True
    """Whether CUDA candidates are compiled where they cannot be run."""
    fast_builds: bool = True
    """Whether builds are shortened (fewer headers, side by side) where the result is the same."""
    keep_warm_seconds: float = 0.0
    """How long the processes that have torch imported wait for a next command after the last; with
    0 they end with it."""
    build_jobs: int = Field(default_factory=_build_jobs)
    """Extensions built at a time in a batch: half the cores, as each runs up to two compilers."""
    silence_seconds: float = 1800.0
    """How long the oracle may say nothing, beyond a stage's own limit, before it counts as hung."""
