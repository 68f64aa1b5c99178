"""Screening: what a candidate's text alone can tell, before anything is built or run.

A tripwire. It is an error only where the answer is certainly worthless (it does not parse,
has no ModelNew, no kernel, a name that nothing defines); everything else is a warning or a
note, and no word in a comment or a string ever counts. Every finding carries the candidate's
own line, also inside CUDA text.

Does not judge values, shapes or speed, import torch, or run any of the candidate's code.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.records import Finding, Record, Severity
from harness.screening._autograd import check_backward, has_backward
from harness.screening._cuda import Native, Source, available
from harness.screening._extension import Extensions, check_calls
from harness.screening._kernels import check_kernels, check_presence
from harness.screening._module import Module
from harness.screening._python import (
    check_imports,
    check_leftovers,
    check_model_new,
    check_names,
    parse,
)
from harness.screening._report import NOTE, finding, in_order
from harness.screening._rules import RULES, Rule
from harness.screening._signatures import Parameter, Signature, check_signatures, signature_of
from harness.screening._work import check_reference, check_work

__all__ = ["RULES", "Parameter", "Rule", "Screening", "Signature", "screen", "signature_of"]


class Screening(Record):
    """What the text of a candidate tells."""

    findings: tuple[Finding, ...]
    """Everything observed, errors first, then by line."""
    syntax_ok: bool
    """Whether the text is valid Python; if not, nothing else was looked at."""
    uses_cuda: bool = False
    """Whether its native text holds a ``__global__``."""
    has_backward: bool = False
    """Whether it has a backward of any form."""
    kernels: tuple[str, ...] = ()
    """Names of its kernels, in the order of the text."""
    functions: tuple[str, ...] = ()
    """Names of the C++ functions that it binds, as far as they can be read."""
    extensions: int = 0
    """How many calls build an extension."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop the pipeline."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)


def screen(candidate: str, reference: Signature | None, *, native: bool = False) -> Screening:
    """Screens a candidate.

    Args:
        candidate: Its text.
        reference: The reference's signature, or None to leave signatures out.
        native: Whether it is judged on the CPU, where a C++ operator stands in for a kernel.

    Returns:
        Every finding, and facts for the later stages.
    """
    tree = parse(candidate)
    if isinstance(tree, Finding):
        return Screening(findings=(tree,), syntax_ok=False)
    module = Module(candidate, tree)
    try:
        return _screen(module, reference, native)
    except RecursionError:
        note = finding(
            "screen.not_screened",
            NOTE,
            None,
            "The code is nested too deeply to be screened.",
            "Split long expressions.",
        )
        return Screening(findings=(note,), syntax_ok=True)


def _screen(module: Module, reference: Signature | None, on_cpu: bool) -> Screening:
    extensions = Extensions(module)
    native = Native([Source(text) for text in extensions.texts if text.value.strip()])
    checks: list[Callable[[], list[Finding]]] = [
        lambda: check_model_new(module),
        lambda: check_signatures(module, reference),
        lambda: check_reference(module),
        lambda: check_names(module),
        lambda: check_imports(module),
        lambda: check_leftovers(module),
        lambda: check_calls(extensions),
        lambda: check_backward(module, native),
        lambda: check_work(module),
        lambda: check_presence(module, extensions, native, on_cpu=on_cpu),
        lambda: _check_kernels(extensions, native),
    ]
    functions = [name for extension in extensions.found for name, _ in extension.functions or ()]
    kernels = native.kernels if available() else []
    return Screening(
        findings=in_order(item for check in checks for item in check()),
        syntax_ok=True,
        uses_cuda=native.has_kernel,
        has_backward=has_backward(module, native),
        kernels=tuple(dict.fromkeys(kernel.name for kernel in kernels)),
        functions=tuple(dict.fromkeys(functions)),
        extensions=len(extensions.found),
    )


def _check_kernels(extensions: Extensions, native: Native) -> list[Finding]:
    if available():
        return check_kernels(extensions, native)
    return [
        finding(
            "screen.not_screened",
            NOTE,
            None,
            "The CUDA text was not screened: tree-sitter cannot be loaded.",
            "Install tree-sitter and tree-sitter-cuda.",
        )
    ]
