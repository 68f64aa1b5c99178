"""Finds the candidate, the one final code block, in a raw model answer.

Takes any text: a Python file, or Markdown with reasoning sections, several fences,
wrong labels, quoted or indented blocks, foreign line ends, a fence that was never
closed. Drafts inside a reasoning section do not count.

Does not judge the code (``screening`` does), import torch, touch the disk, or raise.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from pydantic import Field

from harness._answer import (
    MODEL_NEW,
    PYTHON_LABELS,
    PYTHON_LINE,
    Block,
    Split,
    blocks_of,
    parse,
    split_reasoning,
)
from harness.records import Finding, Place, Record, Severity, Stage

_PYTHON_START = re.compile(
    r"import \w|from [\w.]+ import|class \w+.*:|def \w+\(|@\w|#|r?\"\"\"|r?'''"
)
_COMPLETE_CODE = (
    "Write the complete code, with the class ModelNew, in one final block fenced as python, "
    "after the reasoning."
)
_ONE_BLOCK = "Write exactly one code block after the reasoning."
_MAX_CONTROL_SHARE = 0.05
"""A larger share of control characters than this is no text."""


class Extraction(Record):
    """What was found in a raw model answer."""

    candidate: str | None = None
    """The code, with line ends normalised, or None where there is none."""
    first_line: int = Field(default=1, ge=1)
    """Line of the raw text, from 1, at which the code starts."""
    explanation: str = ""
    """Where there is no code: one sentence on what was found instead."""
    findings: tuple[Finding, ...] = ()
    """What was noticed on the way; an ``extract.no_code`` error where there is no code."""


def extract(text: str) -> Extraction:
    """Finds the candidate in the raw text of a model answer or of a Python file.

    Args:
        text: Anything; line ends may be of any kind.

    Returns:
        The candidate and where it starts, or the reason why there is none.
    """
    text = _normalise(text)
    if not text.strip():
        return _no_code("The text is empty.")
    if share := _control_share(text):
        return _no_code(
            f"The text is not readable as text ({share:.0%} of it are control characters)."
        )
    if (tree := parse(text)) is not None and _is_python_file(tree):
        return Extraction(candidate=text)
    split = split_reasoning(text)
    blocks = [block for segment in split.final for block in blocks_of(segment)]
    python = [block for block in blocks if block.is_python]
    if (plain := _unfenced(split, python)) is not None:
        return plain
    if not python:
        return _no_code(_what_was_found(split, blocks))
    return _choose(python, split)


def _choose(python: list[Block], split: Split) -> Extraction:
    """Takes the last Python block that defines ModelNew, else the last Python block."""
    complete = [block for block in python if block.defines_model_new]
    chosen = (complete or python)[-1]
    return Extraction(
        candidate=chosen.code,
        first_line=chosen.first_line,
        findings=(
            *_about_the_choice(chosen, complete, python, split),
            *_about_the_fence(chosen),
        ),
    )


def _about_the_choice(
    chosen: Block, complete: list[Block], python: list[Block], split: Split
) -> list[Finding]:
    findings = []
    if not complete:
        message = "No final code block defines ModelNew; the last Python block was taken."
        if (draft := split.draft_line()) is not None:
            message += f" A draft with ModelNew stands at line {draft}, inside the reasoning."
        findings.append(_warning("extract.no_model_new", message, _COMPLETE_CODE))
    if len(complete) > 1:
        lines = _lines(block.fence_line for block in complete)
        message = f"{len(complete)} final blocks define ModelNew (raw text, lines {lines}); "
        findings.append(
            _warning("extract.several_blocks", message + "the last was taken.", _ONE_BLOCK)
        )
    others = [block.fence_line for block in python if block not in (complete or [chosen])]
    if others:
        message = f"Other Python blocks were left out (raw text, line {_lines(others)})."
        findings.append(_finding("extract.other_blocks", Severity.NOTE, message, _ONE_BLOCK))
    return findings


def _about_the_fence(chosen: Block) -> list[Finding]:
    findings = []
    if not chosen.closed:
        message = "The last fence was never closed; the answer may be cut off."
        advice = "Close the block, and allow enough tokens for the whole answer."
        findings.append(_warning("extract.unclosed_fence", message, advice))
    if chosen.label and chosen.label not in PYTHON_LABELS:
        message = f"The fence is labelled {chosen.label[:40]!r} but holds Python."
        findings.append(_warning("extract.wrong_label", message, "Label the block python."))
    return findings


def _unfenced(split: Split, python: list[Block]) -> Extraction | None:
    """Accepts a final answer that is source without a fence around it.

    It must parse, or at least begin like source; and where fences hold Python too (in a
    docstring, say), the class ModelNew must stand outside them.
    """
    rest = [segment for segment in split.final if segment.text.strip()]
    if len(rest) != 1:
        return None
    code, line = rest[0].text, rest[0].line
    tree = parse(code)
    if tree is None or not _is_python_file(tree):
        start = next(text for text in code.split("\n") if text.strip())
        if not _PYTHON_START.match(start) or not PYTHON_LINE.search(code):
            return None
        if re.match(r"#+ \w", start) and len(PYTHON_LINE.findall(code)) < 2:
            return None  # A Markdown heading looks like a comment.
        if python and not any(
            match.start() < code.find(python[0].code) for match in MODEL_NEW.finditer(code)
        ):
            return None
    code, skipped = _without_leading_blank_lines(code)
    findings: tuple[Finding, ...] = ()
    if split.reasoning:
        message = "The final answer is source without a code fence around it."
        findings = (_warning("extract.no_fence", message, "Fence the code as python."),)
    return Extraction(candidate=code, first_line=line + skipped, findings=findings)


def _what_was_found(split: Split, blocks: list[Block]) -> str:
    """Says in one sentence why there is no candidate."""
    draft = split.draft_line()
    where = f"; a draft with ModelNew stands at line {draft}" if draft is not None else ""
    if split.unclosed_at is not None and not blocks:
        return (
            f"The reasoning section opened on line {split.unclosed_at} is never closed, "
            f"so there is no final answer{where}."
        )
    if draft is not None:
        return (
            f"A draft with ModelNew stands at line {draft}, inside the reasoning, "
            "but the final answer has no Python block."
        )
    if blocks:
        kinds = ", ".join(sorted({block.label[:40] or "unlabelled" for block in blocks}))
        return f"The final answer has code blocks ({kinds}), but none of them holds Python."
    if not any(segment.text.strip() for segment in split.final):
        return "Nothing follows the reasoning section."
    return "The final answer is prose without a code block."


def _is_python_file(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ClassDef | ast.Import | ast.ImportFrom) for node in ast.walk(tree)
    )


def _without_leading_blank_lines(code: str) -> tuple[str, int]:
    lines = code.split("\n")
    skipped = next((i for i, line in enumerate(lines) if line.strip()), 0)
    return "\n".join(lines[skipped:]), skipped


def _normalise(text: str) -> str:
    """Unifies line ends, drops a byte order mark, replaces characters UTF-8 cannot hold."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def _control_share(text: str) -> float:
    """The share of control characters at the start of the text, 0 where it is text."""
    head = text[:65536]
    control = sum(1 for c in head if (c < " " and c not in "\n\t\f\v\x1b") or c in "\x7f\ufffd")
    share = control / len(head)
    return share if share > _MAX_CONTROL_SHARE else 0.0


def _lines(lines: Iterable[int]) -> str:
    return ", ".join(str(line) for line in list(lines)[:20])


def _no_code(explanation: str) -> Extraction:
    finding = Finding(
        rule="extract.no_code",
        severity=Severity.ERROR,
        stage=Stage.EXTRACT,
        message=explanation,
        advice=_COMPLETE_CODE,
    )
    return Extraction(explanation=explanation, findings=(finding,))


def _warning(rule: str, message: str, advice: str) -> Finding:
    return _finding(rule, Severity.WARNING, message, advice)


def _finding(rule: str, severity: Severity, message: str, advice: str) -> Finding:
    """A finding about the answer as a whole; its place is where the candidate starts."""
    return Finding(
        rule=rule,
        severity=severity,
        stage=Stage.EXTRACT,
        message=message[:4000],
        advice=advice,
        place=Place(line=1),
    )
