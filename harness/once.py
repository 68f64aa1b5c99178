"""One judgement in one call.

Does not: keep anything for the next (see ``grader.Grader``, and ``pool`` for many).
"""

from __future__ import annotations

from pathlib import Path

from harness.generation import Generation
from harness.grader import Grader
from harness.problems import find
from harness.records import Evaluation, GradientPolicy, WorkPolicy
from harness.settings import Settings


def grade(
    candidate: str | Path,
    problem: str,
    *,
    device: str = "auto",
    gradients: GradientPolicy | str | None = None,
    work: WorkPolicy | str = WorkPolicy.LENIENT,
    clocked: bool = True,
    settings: Settings | None = None,
) -> Evaluation:
    """Judge one generation and return its full record.

    Args:
        candidate: Path of a raw answer or a ``.py`` file.
        problem: Name of a shipped problem, or path of a problem file.
        device: ``auto``, ``cuda``, ``cuda:N``, ``emulated`` or ``cpu``.
        gradients: ``required``, ``optional`` or ``off``; the problem's own by default.
        work: What PyTorch may compute for a candidate: ``lenient`` or ``strict``.
        clocked: Whether to measure speedups of what passes.
        settings: Limits and places.

    Raises:
        UsageError: the file, problem or device cannot be used; the message says why.
        HarnessFault: something of ours failed.
    """
    generation = Generation.read(Path(candidate))
    policy = GradientPolicy(gradients) if gradients is not None else None
    file = find(problem)
    with Grader(
        device, settings=settings, gradients=policy, work=WorkPolicy(work), clocked=clocked
    ) as grader:
        return grader.grade(generation, file)
