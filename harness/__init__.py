"""kernel-harness: grades LLM-written GPU kernels so that the grade can be believed.

    >>> import harness
    >>> evaluation = harness.grade("answer.md", problem="relu")  # doctest: +SKIP
    >>> evaluation.verdict  # doctest: +SKIP
    <Verdict.PASSED: 'passed'>

Importing this package is cheap: torch is imported by child processes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.version import __version__

_WHERE = {
    "Evaluation": "harness.records",
    "Finding": "harness.records",
    "HarnessError": "harness.errors",
    "HarnessFault": "harness.errors",
    "Mode": "harness.records",
    "Settings": "harness.settings",
    "UsageError": "harness.errors",
    "Verdict": "harness.records",
    "batch": "harness.pool",
    "grade": "harness.once",
}
__all__ = ["__version__", *sorted(_WHERE)]

if TYPE_CHECKING:
    from harness.errors import HarnessError as HarnessError
    from harness.errors import HarnessFault as HarnessFault
    from harness.errors import UsageError as UsageError
    from harness.once import grade as grade
    from harness.pool import batch as batch
    from harness.records import Evaluation as Evaluation
    from harness.records import Finding as Finding
    from harness.records import Mode as Mode
    from harness.records import Verdict as Verdict
    from harness.settings import Settings as Settings


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used."""
    if name not in _WHERE:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
