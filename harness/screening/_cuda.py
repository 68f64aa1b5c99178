"""Reads CUDA and C++ text: kernels, launches, host functions, and where they stand.

Parses with tree-sitter, which survives what it does not know; a kernel that the grammar
misses is still found by its ``__global__``. States facts only; ``_kernels`` and ``_blocks``
judge them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING

from harness.screening._clike import code_only, without_launch_bounds
from harness.screening._text import Text

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_KERNEL = re.compile(
    r"\b__global__\b[^;{}]*?\bvoid\s+(?:\w+\s*\([^()]*\)\s*)*?(?P<name>\w+)\s*\("
    r"|\bvoid\s+__global__\s+(?:\w+\s*\([^()]*\)\s*)?(?P<other>\w+)\s*\("
)


@dataclass(frozen=True)
class Kernel:
    """One ``__global__`` function."""

    name: str
    line: int
    defined: bool
    """Whether it has a body here (else it is only declared)."""
    empty: bool
    """Whether its body is certain to do nothing."""


@dataclass(frozen=True)
class Launch:
    """One launch by ``<<<…>>>``."""

    kernel: str
    line: int
    config: tuple[Node, ...]
    host: Node | None
    """The function definition around it."""
    source: Source


@dataclass(eq=False)
class Source:
    """One native text, parsed."""

    text: Text
    code: str = field(init=False)
    """The text without comments and without the contents of strings, places kept."""

    def __post_init__(self) -> None:
        self.code = without_launch_bounds(code_only(self.text.value))

    @cached_property
    def root(self) -> Node:
        """The root of the syntax tree."""
        plain = without_launch_bounds(self.text.value)
        return _parser().parse(plain.encode("utf-8", "replace")).root_node

    @cached_property
    def nodes(self) -> list[Node]:
        """Every node of the syntax tree, in the order of the text."""
        return list(walk(self.root))

    @cached_property
    def kernels(self) -> list[Kernel]:
        """The kernels of this text."""
        found = [k for k in map(self._kernel, self.nodes) if k is not None]
        names = {kernel.name for kernel in found}
        for match in _KERNEL.finditer(self.code):
            name = match["name"] or match["other"]
            if name not in names:
                names.add(name)
                after = self.code[match.end() :]
                brace, semicolon = after.find("{"), after.find(";")
                defined = brace >= 0 and (semicolon < 0 or brace < semicolon)
                found.append(Kernel(name, self.text.line_at(match.start()), defined, False))
        return found

    @cached_property
    def launches(self) -> list[Launch]:
        """The launches of this text."""
        return [
            self._launch(node)
            for node in self.nodes
            if node.type == "kernel_call_syntax" and node.parent is not None
        ]

    def line(self, node: Node) -> int:
        """The candidate's line of a node."""
        return self.text.line(node.start_point[0])

    def _kernel(self, node: Node) -> Kernel | None:
        if node.type not in ("function_definition", "declaration"):
            return None
        if not any(child.type == "__global__" for child in node.children):
            return None
        declarator = node.child_by_field_name("declarator")
        while declarator is not None and declarator.type != "identifier":
            declarator = declarator.child_by_field_name("declarator")
        if declarator is None:
            return None
        body = node.child_by_field_name("body")
        return Kernel(
            written(declarator),
            self.line(declarator),
            defined=body is not None,
            empty=body is not None and _does_nothing(body),
        )

    def _launch(self, node: Node) -> Launch:
        call = node.parent
        function = call.child_by_field_name("function") if call is not None else None
        names = re.findall(r"\w+", written(function).split("<")[0]) if function else []
        config = tuple(child for child in node.named_children if child.type != "comment")
        return Launch(
            kernel=names[-1] if names else "",
            line=self.line(call or node),
            config=config,
            host=around(node, "function_definition"),
            source=self,
        )


@dataclass
class Native:
    """All native text of a candidate."""

    sources: list[Source]

    @cached_property
    def code(self) -> str:
        """All code, without comments and the contents of strings."""
        return "\n".join(source.code for source in self.sources)

    @cached_property
    def kernels(self) -> list[Kernel]:
        """All kernels."""
        return [kernel for source in self.sources for kernel in source.kernels]

    @cached_property
    def launches(self) -> list[Launch]:
        """All launches."""
        return [launch for source in self.sources for launch in source.launches]

    @property
    def has_kernel(self) -> bool:
        """Whether any text holds a ``__global__`` outside comments and strings."""
        return re.search(r"\b__global__\b", self.code) is not None

    @cached_property
    def words(self) -> Counter[str]:
        """How often each identifier occurs in the code."""
        return Counter(re.findall(r"\w+", self.code))

    def first(self, pattern: str) -> int | None:
        """The candidate's line of the first match of a pattern in the code."""
        return next(iter(self.all(pattern)), (None, ""))[0]

    def all(self, pattern: str) -> list[tuple[int, str]]:
        """The candidate's lines of all matches, each with its text."""
        return [
            (source.text.line_at(match.start()), match[0])
            for source in self.sources
            for match in re.finditer(pattern, source.code)
        ]


def walk(node: Node) -> Iterator[Node]:
    """Every node below and including one, in the order of the text, without recursion."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(current.children))


def around(node: Node, kind: str) -> Node | None:
    """The nearest node of a kind around another."""
    parent = node.parent
    while parent is not None and parent.type != kind:
        parent = parent.parent
    return parent


def written(node: Node) -> str:
    """The text of a node."""
    return (node.text or b"").decode("utf-8", "replace")


def available() -> bool:
    """Whether the parser can be loaded on this machine."""
    try:
        _parser()
    except (ImportError, OSError, ValueError):
        return False
    return True


@cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_cuda

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_cuda.language()))


def _does_nothing(body: Node) -> bool:
    if body.has_error or body.type != "compound_statement":
        return False
    return all(
        child.type == "comment" or written(child).replace(" ", "") in (";", "return;")
        for child in body.named_children
    )
