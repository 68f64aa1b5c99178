"""What a problem makes of answers that nobody should get away with.

A problem that lets a constant pass, or half precision, gives a score that means nothing. Dummies
are answers made by trusted code; each must fail somewhere, or pass everywhere, and the problem is
trusted only if every one of them does as it must.

Does not: make the dummies (see ``oracle.dummies``).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, computed_field, model_validator

from harness._record import Record
from harness.records import Device


class DummyResult(Record):
    """One dummy against all trials of a problem."""

    name: str
    """What it answers: ``zeros``, ``operands in bfloat16`` …"""
    must: Literal["pass", "fail"]
    """What it has to do: pass every trial, or fail one."""
    trials: Annotated[int, Field(ge=0)]
    """Trials to which it has an answer; none where it has no meaning for the problem."""
    passed: Annotated[int, Field(ge=0)]
    """Trials that it passed."""

    @model_validator(mode="after")
    def _no_more_passed_than_tried(self) -> Self:
        if self.passed > self.trials:
            raise ValueError(f"{self.passed} of {self.trials} trials passed")
        return self

    @computed_field
    @property
    def as_it_must(self) -> bool:
        """Whether it did what it has to do (true of one that does not apply)."""
        everywhere = self.passed == self.trials
        return not self.trials or everywhere == (self.must == "pass")


class Admission(Record):
    """Whether a problem can be trusted, and why not."""

    problem: str
    problem_sha256: str
    device: Device
    harness_version: str
    measured_at: str
    """UTC, ISO 8601."""
    dummies: Annotated[tuple[DummyResult, ...], Field(min_length=1)]

    @computed_field
    @property
    def trusted(self) -> bool:
        """Whether every dummy did as it must, and one of those that must fail applied."""
        judged = any(d.must == "fail" and d.trials for d in self.dummies)
        return judged and all(d.as_it_must for d in self.dummies)
