"""Reads the structure of a raw model answer: reasoning sections and fenced blocks.

Knows which tags end a section and which are part of code, what a fence holds whatever its
label says, and where everything stands. Does not choose between blocks (``extract`` does).
"""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import cache

from markdown_it import MarkdownIt

from harness.syntax import parse_module

_REASONING_TAG = re.compile(r"<(/?)(think|thinking|thought|reasoning)>", re.IGNORECASE)
MODEL_NEW = re.compile(
    r"^[ \t]*(?:class\s+ModelNew\b|ModelNew\s*(?::[^=\n]*)?=(?!=))", re.MULTILINE
)
PYTHON_LINE = re.compile(
    r"^(?:import [\w.]+(?: as \w+)?(?:, *[\w.]+)* *(?:#.*)?$|from [\w.]+ import [\w*(]"
    r"|class \w+(?:\(.*)?:?|(?:async )?def \w+ *\(|@[\w.]+)",
    re.MULTILINE,
)
_CPP_LINE = re.compile(
    r"^(?:#include\b|template *<|(?:static |extern .C. )?__global__)", re.MULTILINE
)
PYTHON_LABELS = frozenset({"python", "py", "python3", "py3", "ipython", "pytorch", "torch"})
_MAX_REPARSES = 32
"""How many reasoning tags may stand inside fences before the rest is taken as it is."""
_MAX_WIDENINGS = 4
_MAX_WIDENED_LINES = 500
"""How many closing fences and lines a block may reach over to become valid Python."""


@dataclass(frozen=True)
class Block:
    """One fenced block; lines are those of the raw text, from 1."""

    code: str
    label: str
    fence_line: int
    closed: bool
    tree: ast.Module | None

    @property
    def first_line(self) -> int:
        """Line at which the code starts."""
        return self.fence_line + 1

    @property
    def last_line(self) -> int:
        """Line of the last line of code."""
        return self.fence_line + self.code.count("\n") + (not self.code.endswith("\n"))

    @property
    def defines_model_new(self) -> bool:
        """Whether the code binds the name ModelNew."""
        if self.tree is not None:
            return any(_binds_model_new(node) for node in ast.walk(self.tree))
        return self.is_python and MODEL_NEW.search(self.code) is not None

    @property
    def is_python(self) -> bool:
        """Judged by the content; the label only decides where the content does not."""
        if self.tree is not None and any(_is_program(node) for node in self.tree.body):
            return True
        if self.tree is None and _CPP_LINE.search(self.code) and not MODEL_NEW.search(self.code):
            # Broken, and it has lines that only C++ has: Python would need several of its own.
            return len(PYTHON_LINE.findall(self.code)) > 2
        if self.label in PYTHON_LABELS:
            return bool(self.code.strip())
        return self.tree is None and PYTHON_LINE.search(self.code) is not None


@dataclass(frozen=True)
class Segment:
    """A stretch of the raw text and the line, from 1, at which it starts."""

    text: str
    line: int


@dataclass
class Split:
    """The raw text parted into reasoning and final answer."""

    final: list[Segment] = field(default_factory=list)
    """What counts."""
    reasoning: list[Segment] = field(default_factory=list)
    """What does not."""
    unclosed_at: int | None = None
    """Line of an opening tag that is never closed."""

    def draft_line(self) -> int | None:
        """The line of the last draft of ModelNew inside the reasoning."""
        for segment in reversed(self.reasoning):
            if matches := list(MODEL_NEW.finditer(segment.text)):
                return segment.line + segment.text.count("\n", 0, matches[-1].start())
        return None


def split_reasoning(text: str) -> Split:
    """Parts the text at its reasoning tags.

    A closing tag without an opening one makes everything before it reasoning, unless a
    section was closed before and no code follows: then it is a stray repetition.
    An opening tag that is never closed makes everything after it reasoning.
    """
    split = Split()
    start, opened, name, closed_before = 0, None, "", False
    newlines, tags = _newlines(text), _real_tags(text)

    def segment(start: int, end: int) -> Segment:
        return Segment(text[start:end], bisect_left(newlines, start) + 1)

    for tag in tags:
        closing, tag_name = bool(tag.group(1)), tag.group(2).lower()
        if not closing and opened is None:
            split.final.append(segment(start, tag.start()))
            start, opened, name = tag.end(), tag.start(), tag_name
        elif closing and opened is not None and tag_name == name:
            split.reasoning.append(segment(start, tag.start()))
            start, opened, closed_before = tag.end(), None, True
        elif closing and opened is None:
            if closed_before and tag is tags[-1] and not _has_code(text[tag.end() :]):
                continue
            split.reasoning = [segment(0, tag.start())]
            split.final = []
            start, closed_before = tag.end(), True
    if opened is None:
        split.final.append(segment(start, len(text)))
    else:
        split.reasoning.append(segment(start, len(text)))
        split.unclosed_at = segment(opened, opened).line
    return split


def _real_tags(text: str) -> list[re.Match[str]]:
    """The reasoning tags that are meant as such.

    A tag in a block of valid Python, or within a line of other code, is part of the code;
    one alone on its line ends even a draft whose fence was never closed. A tag in
    backticks or quotes is talked about, not used.
    """
    if _REASONING_TAG.search(text) is None:
        return []
    tags: list[re.Match[str]] = []
    inside, reparses = _by_line(blocks_of(Segment(text, 1))), 0
    newlines = _newlines(text)
    for match in _REASONING_TAG.finditer(text):
        if text[match.start() - 1 : match.start()] in ("`", '"', "'") and match.start() > 0:
            continue
        line = bisect_left(newlines, match.start()) + 1
        block = inside.get(line)
        if block is not None:
            if block.tree is not None or not _alone_on_its_line(text, match):
                continue
            if reparses < _MAX_REPARSES:
                inside = _by_line(blocks_of(Segment(text[match.end() :], line)))
                reparses += 1
        tags.append(match)
    return tags


def _by_line(blocks: list[Block]) -> dict[int, Block]:
    """The block on each line; one without code (a quote may end it at once) is on none."""
    held = [b for b in blocks if b.code.strip()]
    return {line: b for b in held for line in range(b.first_line, b.last_line + 1)}


def _alone_on_its_line(text: str, match: re.Match[str]) -> bool:
    before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    after = text[match.end() :].split("\n", 1)[0]
    return not before.strip() and (not after.strip() or after.lstrip().startswith(("```", "~~~")))


def _has_code(text: str) -> bool:
    return any(block.is_python for block in blocks_of(Segment(text, 1)))


def blocks_of(segment: Segment) -> list[Block]:
    """The fenced blocks of a segment.

    Lists are not parsed: models often write the code of a list item without indenting it,
    and a fence would end with its item. Where that finds no Python, a second parse knows
    lists and takes fences at any indentation.
    """
    if "```" not in segment.text and "~~~" not in segment.text:
        return []
    first = _fences(segment, ("fence", "blockquote", "code"))
    if any(block.is_python for block in first):
        return first
    second = _fences(segment, ("fence", "blockquote", "list"))
    return second if any(block.is_python for block in second) else first


def _fences(segment: Segment, rules: tuple[str, ...]) -> list[Block]:
    parser = _parser(rules)
    lines = segment.text.split("\n")
    blocks: list[Block] = []
    for token in parser.parse(segment.text):
        if token.type != "fence" or token.map is None:
            continue
        begin, end = token.map
        if blocks and segment.line + begin <= blocks[-1].last_line + 1:
            continue  # Inside a block that was widened.
        label = token.info.strip().split(maxsplit=1)
        block = Block(
            code=token.content,
            label=label[0].strip("{}.").lower() if label else "",
            fence_line=segment.line + begin,
            closed=_is_closed(token.content, lines[begin:end], token.markup),
            tree=parse(token.content),
        )
        blocks.append(_widened(block, lines[begin + 1 :], token.markup))
    return blocks


@cache
def _parser(rules: tuple[str, ...]) -> MarkdownIt:
    return MarkdownIt("zero", {"maxNesting": 20}).enable(list(rules))


def _widened(block: Block, below: list[str], markup: str) -> Block:
    """A block that is not valid Python alone, but is up to a later closing fence.

    A docstring with a fence of its own ends its block early in Markdown's eyes.
    """
    if block.tree is not None or not block.closed or not block.is_python:
        return block
    start = block.code.count("\n") + 1
    near = range(start, min(start + _MAX_WIDENED_LINES, len(below)))
    ends = [at for at in near if _closes(below[at], markup) and below[at][:1] != ">"]
    for end in ends[:_MAX_WIDENINGS]:
        code = "\n".join(below[:end]) + "\n"
        if (tree := parse(code)) is not None:
            return replace(block, code=code, tree=tree)
    return block


def _is_closed(code: str, rows: list[str], markup: str) -> bool:
    """Whether the rows of a block end with its closing fence."""
    count = code.count("\n") + bool(code and not code.endswith("\n"))
    return len(rows) == count + 2 and _closes(rows[-1], markup)


def _closes(line: str, markup: str) -> bool:
    bare = line.lstrip(" \t>").rstrip()
    return bare.startswith(markup) and not bare.strip(markup[0])


def parse(code: str) -> ast.Module | None:
    """The syntax tree, or None where the code is not valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parse_module(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_program(node: ast.AST) -> bool:
    """Whether a statement is one that data and shell lines do not look like."""
    return isinstance(
        node,
        ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
    )


def _binds_model_new(node: ast.AST) -> bool:
    if isinstance(node, ast.ClassDef):
        return node.name == "ModelNew"
    if isinstance(node, ast.Name):
        return node.id == "ModelNew" and isinstance(node.ctx, ast.Store)
    return isinstance(node, ast.alias) and (node.asname or node.name) == "ModelNew"


def _newlines(text: str) -> list[int]:
    return [match.start() for match in re.finditer("\n", text)]
