"""Finds launches whose block can have more than 1,024 threads.

Follows the block's dimensions through the declarations of the host function around the
launch. Speaks only where a dimension is the size of a tensor and nothing bounds it, or where
all dimensions are known; whatever else it meets, it keeps silent. Does not know shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records import Finding
from harness.screening._cuda import Launch, Native, Source, walk, written
from harness.screening._report import WARNING, finding

if TYPE_CHECKING:
    from tree_sitter import Node

LIMIT = 1024
"""Threads in a block on every CUDA device so far."""

_MAX_DEPTH = 24
_SIZES = frozenset({"size", "numel", "sizes", "shape"})
_ADVICE = "Use a fixed block of at most 1,024 threads and cover the rest with the grid."


@dataclass(frozen=True)
class _Value:
    """What is known of an expression."""

    bound: int | None = None
    """The largest value it can have, where known."""
    of_a_size: bool = False
    """Whether it grows with the size of a tensor and nothing bounds it."""


def check_blocks(native: Native) -> list[Finding]:
    """Checks the block of every launch; one finding for each place that sets one."""
    found: dict[int, Finding] = {}
    for launch in native.launches:
        if len(launch.config) < 2:
            continue
        result = _Host(launch).judge()
        if result is not None:
            found.setdefault(result.place.line if result.place else 0, result)
    return list(found.values())


class _Host:
    """The host function around a launch."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._source: Source = launch.source
        self._scope = list(walk(launch.host)) if launch.host is not None else []
        self._code = re.sub(r"\s+", " ", written(launch.host)) if launch.host is not None else ""
        self._constants = dict(_constants(self._source))

    def judge(self) -> Finding | None:
        block = self._launch.config[1]
        dimensions, place = self._dimensions(block)
        if not dimensions:
            return None
        line = self._source.line(place) if place is not block else self._launch.line
        values = [self._value(node, 0) for node in dimensions]
        grown = [written(n) for n, v in zip(dimensions, values, strict=True) if v.of_a_size]
        shape = ", ".join(written(node) for node in dimensions)[:200]
        name = self._launch.kernel or "a kernel"
        if grown:
            return finding(
                "screen.block_size",
                WARNING,
                line,
                f"The block of {name} is ({shape}): it grows with the size of a tensor and can "
                "exceed 1,024 threads, at which the launch fails.",
                _ADVICE,
            )
        total = 1
        for value in values:
            if value.bound is None:
                return None
            total *= max(value.bound, 1)
        if total > LIMIT and all(_is_fixed(v) for v in values):
            return finding(
                "screen.block_size",
                WARNING,
                line,
                f"The block of {name} is ({shape}), up to {total:,} threads; no device "
                "takes more than 1,024.",
                _ADVICE,
            )
        return None

    def _dimensions(self, block: Node) -> tuple[list[Node], Node]:
        """The expressions of a block's dimensions, and the place that sets them."""
        if block.type == "call_expression" and _called(block) == "dim3":
            return _arguments(block), block
        if block.type != "identifier":
            return [block], block
        name = written(block)
        if re.search(rf"\b{name}\.[xyz]\s*[-+*/]?=", self._code) or self._is_guarded(name):
            return [], block
        declarations = self._initialisers(name)
        if len(declarations) != 1:
            return ([], block) if declarations else ([block], block)
        value = declarations[0]
        if value.type in ("argument_list", "initializer_list", "parameter_list"):
            return value.named_children, value
        if value.type == "call_expression" and _called(value) == "dim3":
            return _arguments(value), value
        return [value], value

    def _initialisers(self, name: str) -> list[Node]:
        """Every value given to a variable in this function."""
        found = []
        for node in self._scope:
            target = None
            if node.type == "init_declarator":
                target = node.child_by_field_name("declarator")
                value = node.child_by_field_name("value")
            elif node.type == "assignment_expression":
                target = node.child_by_field_name("left")
                value = node.child_by_field_name("right")
            elif node.type == "update_expression":
                target = value = node.child_by_field_name("argument")
            elif node.type == "function_declarator":
                # ``dim3 threads(a, b);`` reads like the declaration of a function.
                target = node.child_by_field_name("declarator")
                value = node.child_by_field_name("parameters")
            if target is not None and value is not None and written(target) == name:
                found.append(value)
        return found

    def _value(self, node: Node, depth: int) -> _Value:
        if depth > _MAX_DEPTH:
            return _Value()
        kind = node.type
        if kind in ("number_literal", "preproc_arg"):
            return _Value(_number(written(node)))
        if kind in ("identifier", "type_identifier"):
            return self._variable(written(node), depth)
        if kind == "call_expression":
            return self._call(node, depth)
        if kind == "binary_expression":
            return self._operation(node, depth)
        if kind == "conditional_expression":
            return self._choice(node, depth)
        if kind == "subscript_expression":
            return _Value(of_a_size=re.search(r"\bsizes\s*\(", written(node)) is not None)
        if kind in ("parenthesized_expression", "cast_expression", "parameter_declaration"):
            return self._value(node.named_children[-1], depth + 1)
        return _Value()

    def _variable(self, name: str, depth: int) -> _Value:
        values = self._initialisers(name)
        if not values and name in self._constants:
            return self._value(self._constants[name], depth + 1)
        if len(values) != 1 or self._is_guarded(name):
            return _Value()
        return self._value(values[0], depth + 1)

    def _is_guarded(self, name: str) -> bool:
        """Whether the function compares a variable with a limit, and so may refuse or clamp it."""
        return bool(
            re.search(
                rf"\b{name}\s*(?:\*\s*\w+\s*)?[<>]=?\s*(?:\d{{2,}}|\w*(?:MAX|max|LIMIT)\w*)",
                self._code,
            )
            or re.search(rf"(?:\d{{2,}}|\w*(?:MAX|max|LIMIT)\w*)\s*[<>]=?\s*{name}\b", self._code)
        )

    def _call(self, node: Node, depth: int) -> _Value:
        function = node.child_by_field_name("function")
        arguments = _arguments(node)
        name = _called(node)
        if function is not None and function.type == "field_expression":
            return _Value(of_a_size=name in _SIZES)
        values = [self._value(argument, depth + 1) for argument in arguments]
        bounds = [value.bound for value in values if value.bound is not None]
        if name == "min" and values:
            if bounds:
                return _Value(min(bounds))
            return _Value(of_a_size=all(value.of_a_size for value in values))
        if name == "max" and values:
            known = max(bounds) if len(bounds) == len(values) else None
            return _Value(known, any(value.of_a_size for value in values))
        if name in ("static_cast", "int", "unsigned", "dim3", "size_t") and len(values) == 1:
            return values[0]
        return _Value()

    def _operation(self, node: Node, depth: int) -> _Value:
        left_node, right_node = node.child_by_field_name("left"), node.child_by_field_name("right")
        operator = node.child_by_field_name("operator")
        if left_node is None or right_node is None or operator is None:
            return _Value()
        left, right = self._value(left_node, depth + 1), self._value(right_node, depth + 1)
        sign = written(operator)
        if sign == "%" and right.bound is not None:
            return _Value(max(right.bound - 1, 0))
        if sign == "&":
            bounds = [b for b in (left.bound, right.bound) if b is not None]
            return _Value(min(bounds)) if bounds else _Value()
        if sign not in ("+", "-", "*", "/"):
            return _Value()
        grows = left.of_a_size or (right.of_a_size and sign in ("+", "*"))
        if left.bound is None or right.bound is None:
            return _Value(of_a_size=grows)
        if sign == "-":
            return _Value(left.bound)
        if sign == "/":
            return _Value(left.bound // right.bound if right.bound else None)
        return _Value(left.bound + right.bound if sign == "+" else left.bound * right.bound)

    def _choice(self, node: Node, depth: int) -> _Value:
        arms = [node.child_by_field_name(part) for part in ("consequence", "alternative")]
        values = [self._value(arm, depth + 1) for arm in arms if arm is not None]
        bounds = [value.bound for value in values if value.bound is not None]
        # ``n < 256 ? n : 256`` is a clamp: one known arm bounds the other.
        return _Value(max(bounds)) if bounds else _Value()


def _is_fixed(value: _Value) -> bool:
    return value.bound is not None and not value.of_a_size


def _constants(source: Source) -> Iterator[tuple[str, Node]]:
    """File-level constants: ``const int N = 256;`` and ``#define N 256``."""
    seen: dict[str, int] = {}
    pairs: list[tuple[str, Node]] = []
    for node in source.nodes:
        if node.type == "init_declarator":
            name, value = (node.child_by_field_name(p) for p in ("declarator", "value"))
            parent = node.parent
            top = parent is not None and parent.parent is not None
            if name is None or value is None or parent is None or not top:
                continue
            if parent.parent is None or parent.parent.type != "translation_unit":
                continue
        elif node.type == "preproc_def":
            name, value = (node.child_by_field_name(p) for p in ("name", "value"))
            if name is None or value is None or _number(written(value)) is None:
                continue
        else:
            continue
        seen[written(name)] = seen.get(written(name), 0) + 1
        pairs.append((written(name), value))
    return ((name, value) for name, value in pairs if seen[name] == 1)


def _called(node: Node) -> str:
    """The last name of what is called, without template arguments."""
    function = node.child_by_field_name("function")
    names = re.findall(r"\w+", written(function).split("<")[0]) if function is not None else []
    return names[-1] if names else ""


def _arguments(node: Node) -> list[Node]:
    arguments = node.child_by_field_name("arguments")
    if arguments is None:
        return []
    return [child for child in arguments.named_children if child.type != "comment"]


def _number(text: str) -> int | None:
    digits = re.fullmatch(r"\(?\s*(0[xX][0-9a-fA-F']+|[0-9']+)[uUlL]*\s*\)?", text.strip())
    if digits is None:
        return None
    try:
        return int(digits[1].replace("'", ""), 0)
    except ValueError:
        return None
