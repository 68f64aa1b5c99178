"""One artifact cache for the whole test session, and short limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "generations"
HOSTILE = ROOT / "tests" / "hostile"

LIMITS = {
    "KERNEL_HARNESS_CALL_SECONDS": "8",
    "KERNEL_HARNESS_LOAD_SECONDS": "20",
    "KERNEL_HARNESS_MEMORY_BYTES": str(3 << 30),
    "KERNEL_HARNESS_CLOCK_SECONDS": "0.5",
    "KERNEL_HARNESS_BUILD_JOBS": "2",
    "KERNEL_HARNESS_BUILD_WITHOUT_GPU": "0",
}


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Limits that make a hostile candidate's end quick, and a cache that nobody else uses."""
    cache = os.environ.get("KERNEL_HARNESS_TEST_CACHE")
    folder = Path(cache) if cache else tmp_path_factory.mktemp("cache")
    # A place of their own for work directories, so that what is left behind is seen.
    own = {"KERNEL_HARNESS_CACHE_DIR": str(folder), "TMPDIR": str(tmp_path_factory.mktemp("tmp"))}
    added = LIMITS | own
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    yield added
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def expectation(source: str) -> str:
    """The verdict that a hostile candidate states in its first line."""
    return source.splitlines()[0].removeprefix("# expect:").strip()
