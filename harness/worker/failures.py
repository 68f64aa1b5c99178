"""Puts an exception of the candidate into words that fit a message.

Does not: decide a verdict.
"""

from __future__ import annotations

import traceback

import torch

from harness.emulation.device import NOT_EMULATED
from harness.wire import Message

_LONGEST = 4000


def describe(error: BaseException, candidate_path: str) -> Message:
    """Kind, type, text and the candidate's own line of an exception."""
    return {
        "failure": {
            "kind": _kind(error),
            "type": type(error).__name__,
            "message": _text(error)[:_LONGEST],
            "line": _line(error, candidate_path),
            "traceback": _traceback(error)[-_LONGEST:],
        }
    }


def _kind(error: BaseException) -> str:
    text = _text(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text:
        return "out_of_memory"
    if isinstance(error, NotImplementedError) and text.startswith(NOT_EMULATED):
        return "unsupported"
    if "CUDA error" in text or "CUDA driver error" in text:
        return "device"
    return "exception"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "(its text cannot be had)"


def _line(error: BaseException, candidate_path: str) -> int | None:
    """The last line of the candidate that the exception passed through."""
    if isinstance(error, SyntaxError) and error.filename == candidate_path:
        return error.lineno
    try:
        frames = traceback.extract_tb(error.__traceback__)
    except BaseException:
        return None
    lines = [f.lineno for f in frames if f.filename == candidate_path]
    return lines[-1] if lines else None


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:
        return ""
