"""Problems: where they are (no torch), and what is in one (torch, in the oracle only)."""

from harness.problems.catalogue import ProblemFile, find, listing

__all__ = ["ProblemFile", "find", "listing"]
