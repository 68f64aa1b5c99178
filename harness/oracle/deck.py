"""Questions that are asked of every candidate of a batch, with their answers, worked out once.

Seeds are drawn when a question is first asked, so after every candidate of the batch was
written; no candidate can tell another what it saw. What does not fit is worked out anew each time.

Does not: choose questions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import fields

import torch

from harness.oracle.reference import Question, Target
from harness.worker.trees import flatten


class Deck:
    """The questions of one problem for one batch."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._batch = ""
        self._questions: dict[Hashable, Question | None] = {}

    def begin(self, batch: str) -> None:
        """Forget everything unless it belongs to this batch."""
        if batch != self._batch:
            self.clear()
            self._batch = batch

    def clear(self) -> None:
        """Forget everything."""
        self._questions.clear()
        self._held = 0

    def ask(self, key: Hashable, make: Callable[[], Question | None]) -> Question | None:
        """The question known by ``key``; made if it was not asked before."""
        if key in self._questions:
            return self._questions[key]
        question = make()
        size = 0 if question is None else _bytes(question)
        if self._held + size <= self._most:
            self._questions[key] = question
            self._held += size
        return question


def _bytes(question: Question) -> int:
    """Memory of all its tensors."""
    tensors = [t for _, t in flatten([question.args, question.other_args])]
    tensors += [*question.weights.values(), *question.cotangents]
    for target in (*question.outputs, *question.buffers, *question.gradients.values()):
        tensors += [
            value
            for value in (getattr(target, f.name) for f in fields(Target))
            if isinstance(value, torch.Tensor)
        ]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
