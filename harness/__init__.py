"""kernel-harness: grades LLM-written GPU kernels so that the grade can be believed.

    >>> import harness
    >>> evaluation = harness.grade("answer.md", problem="relu")  # doctest: +SKIP
    >>> evaluation.verdict  # doctest: +SKIP
    <Verdict.PASSED: 'passed'>

Importing this package is cheap: torch is imported by child processes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

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
    "grade": "harness.grader",
}
__all__ = ["__version__", *sorted(_WHERE)]

if TYPE_CHECKING:
    from harness.errors import HarnessError, HarnessFault, UsageError
    from harness.grader import grade
    from harness.pool import batch
    from harness.records import Evaluation, Finding, Mode, Verdict
    from harness.settings import Settings


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used."""
    if name not in _WHERE:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
