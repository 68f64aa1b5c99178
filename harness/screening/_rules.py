"""The twelve rules of the task: the one place that words them.

Prompts render them from here, and findings refer to them by id. Does not check anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One rule of the task."""

    id: str
    """``R01`` … ``R12``, as findings write it."""
    title: str
    """A few words, for tables and headings."""
    text: str
    """The full sentence, as a prompt gives it."""


RULES: tuple[Rule, ...] = (
    Rule(
        "R01",
        "A module with the same interface",
        "The new architecture is a subclass of nn.Module with the same interface as the original.",
    ),
    Rule(
        "R02",
        "Only operators replaced",
        "Replace only operators inside __init__ and forward; parameters, buffers, state names "
        "and the behaviour in training and evaluation mode stay as they are.",
    ),
    Rule(
        "R03",
        "The same constructor parameters",
        "The constructor takes the original's parameters, in the same order and with the same "
        "defaults; further parameters are allowed if they have defaults.",
    ),
    Rule(
        "R04",
        "Custom CUDA kernels do the work",
        "The replaced operators are custom CUDA kernels, built through PyTorch's extension API "
        "(torch.utils.cpp_extension.load_inline); they, not library calls, do the work.",
    ),
    Rule(
        "R05",
        "Fused or split",
        "Several operators may become one fused kernel, or one operator several kernels.",
    ),
    Rule(
        "R06",
        "Works with autograd",
        "The new architecture works with PyTorch's autograd, with a backward pass of its own.",
    ),
    Rule(
        "R07",
        "The same shapes",
        "Outputs have exactly the shapes of the original's outputs.",
    ),
    Rule(
        "R08",
        "No third-party libraries",
        "Use nothing but Python's standard library, PyTorch and CUDA.",
    ),
    Rule(
        "R09",
        "Correct syntax, defined names",
        "The code is syntactically correct and uses no name that it does not define or import.",
    ),
    Rule(
        "R10",
        "No leftovers",
        "The code has no print statements, tests or debugging aids left in it.",
    ),
    Rule(
        "R11",
        "Named ModelNew",
        "The new architecture is named ModelNew and is defined at module level.",
    ),
    Rule(
        "R12",
        "Kernels with proper names",
        "Every CUDA kernel has a clear name that says what it computes.",
    ),
)
