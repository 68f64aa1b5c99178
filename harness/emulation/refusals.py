"""What nvcc refuses in CUDA text although g++ would take it with our headers.

Which functions run where: calls from the device to the host and back, launches of what is no
kernel, kernels that are called like functions. Speaks only of what is certain; macros, conditions,
methods, overloads and text that does not parse leave it silent. Does not: check anything that a
C++ compiler checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

from harness.emulation._tokens import Token, line_of, mask, streams

if TYPE_CHECKING:
    from tree_sitter import Node, Parser


class Refusal(NamedTuple):
    """A refusal in nvcc's words, and its line, counted from 1."""

    message: str
    line: int


_MARKS = frozenset({"__global__", "__device__", "__host__"})
_BUILTIN = frozenset(
    ("void", "bool", "char", "short", "int", "long", "float", "double", "signed", "unsigned")
)
_NEUTRAL = frozenset(("static", "inline", "extern", "__inline", "__inline__", "volatile"))
_DEVICE_VARIABLE = frozenset(("__device__", "__constant__", "__managed__", "__shared__"))
_DECORATION = re.compile(
    r"\b(?:__launch_bounds__|C10_LAUNCH_BOUNDS_\d|__attribute__|__align__)\s*(?=\()"
    r"|\b(?:__forceinline__|__noinline__|__restrict__|__restrict|__grid_constant__)\b"
    r"|^[ \t]*#[ \t]*pragma\b[^\n]*",
    re.MULTILINE,
)
_UNEVALUATED = frozenset(
    ("decltype", "sizeof_expression", "alignof_expression", "static_assert_declaration", "noexcept")
)
_CONDITIONAL = frozenset(
    ("preproc_if", "preproc_ifdef", "preproc_else", "preproc_elif", "preproc_elifdef")
)
_DECLARING = frozenset(
    ("declaration", "parameter_declaration", "optional_parameter_declaration", "for_range_loop")
)
_WRAPPING = frozenset(("reference_declarator", "parenthesized_declarator"))
# CUDA has device overloads of these; which one a call means is not ours to find out.
_LIBRARY = re.compile(
    r"(?:f?(?:abs|max|min|mod|dim|ma)|remainder|a?(?:sin|cos|tan)h?|atan2|sinpi|cospi|sincos(?:pi)?"
    r"|exp|exp2|exp10|expm1|log|log2|log10|log1p|logb|ldexp|frexp|scalbl?n|ilogb|pow|sqrt|rsqrt"
    r"|cbrt|rcbrt|hypot|rhypot|erf|erfc|erfinv|erfcinv|erfcx|tgamma|lgamma|normcdf(?:inv)?"
    r"|ceil|floor|trunc|l?l?round|l?l?rint|nearbyint|copysign|nextafter|nan|j[01n]|y[01n]|norm\w*"
    r"|saturate|clamp|fdivide)[fl]?"
    r"|isnan|isinf|isfinite|signbit|swap|move|forward|get|begin|end|size|data|tie|make_\w+"
    r"|printf|malloc|free|memcpy|memset|memmove|assert|clock\w*|__\w+|atomic\w+|u?mul\w*|u?div\w*"
    r"|[lu]+(?:max|min)|tex\w+|surf\w+|h2?(?:exp|log|sqrt|sin|cos)\w*|operator.*"
)


def refusals(source: str) -> list[Refusal]:
    """What nvcc certainly refuses, in the order of the lines."""
    if not re.search(r"__(?:global|device)__", source):
        return []
    unit = _Unit(source)
    found = [*_kernels(unit), *_initialized_shared(unit)]
    for function in unit.functions:
        if function.body is not None and not function.node.has_error:
            found += [*_calls(unit, function), *_globals(unit, function)]
    return sorted(set(found), key=lambda refusal: (refusal.line, refusal.message))


# ---- the text and its functions ----


@dataclass(frozen=True)
class _Function:
    """A function outside of all classes, defined or only declared."""

    name: str
    node: Node
    marks: frozenset[str]
    """Which of ``__global__``, ``__device__`` and ``__host__`` it has."""
    returns: str
    certain: bool
    """Whether nothing but known words stands before its name, under no condition."""
    constexpr: bool
    is_template: bool

    @property
    def body(self) -> Node | None:
        return self.node.child_by_field_name("body")

    @property
    def kind(self) -> str:
        """Where it runs, in nvcc's words."""
        marks = [mark for mark in ("__host__", "__device__", "__global__") if mark in self.marks]
        return " ".join(marks) or "__host__"


class _Unit:
    """One CUDA text, parsed."""

    def __init__(self, source: str) -> None:
        self.code = _plain(mask(source))
        # One byte for a character, so that both count alike.
        self.root = _parser().parse(self.code.encode("ascii", "replace")).root_node

    @cached_property
    def functions(self) -> list[_Function]:
        """Its functions, in the order of the text."""
        found = (_function(self, node, certain) for node, certain in self._top(self.root, True))
        return [function for function in found if function is not None]

    @cached_property
    def variables(self) -> list[tuple[Node, bool]]:
        """The declarations outside of functions, and whether they are under no condition."""
        return [(n, c) for n, c in self._top(self.root, True) if n.type == "declaration"]

    @cached_property
    def tokens(self) -> list[Token]:
        """All tokens, those of macros at the end."""
        return [token for stream in streams(self.code) for token in stream.tokens]

    @cached_property
    def macros(self) -> frozenset[str]:
        """The names that are macros."""
        return frozenset(re.findall(r"#\s*define\s+(\w+)", self.code))

    @cached_property
    def _by_name(self) -> dict[str, list[_Function]]:
        found: dict[str, list[_Function]] = {}
        for function in self.functions:
            found.setdefault(function.name, []).append(function)
        return found

    def named(self, name: str) -> list[_Function]:
        """All functions of a name; none where there may be others that were not seen."""
        found = self._by_name.get(name, [])
        if name in self.macros or _LIBRARY.fullmatch(name):
            return []
        if not all(function.certain for function in found):
            return []
        return found if self._declarations(name) == len(found) else []

    def mentions(self, name: str) -> int:
        """How often a name occurs."""
        return sum(token.text == name for token in self.tokens)

    def _declarations(self, name: str) -> int:
        """How often a name is declared as far as its neighbours tell, methods and all."""
        return sum(
            token.text == name and _looks_declared(self.tokens, i)
            for i, token in enumerate(self.tokens)
        )

    def _top(self, node: Node, certain: bool) -> Iterator[tuple[Node, bool]]:
        """What stands outside of functions and classes."""
        for child in node.named_children:
            if child.type in ("function_definition", "declaration"):
                yield child, certain
            elif child.type in _CONDITIONAL:
                yield from self._top(child, False)
            elif child.type in (
                "namespace_definition",
                "declaration_list",
                "linkage_specification",
                "template_declaration",
            ):
                yield from self._top(child, certain)


def _plain(code: str) -> str:
    """Masked code without decoration that confuses parsers."""
    for match in reversed(list(_DECORATION.finditer(code))):
        end = match.end()
        if code[end : end + 1] == "(":
            end = _closing(code, end)
        code = code[: match.start()] + re.sub(r"[^\n]", " ", code[match.start() : end]) + code[end:]
    return code


def _closing(code: str, at: int) -> int:
    """The end of the parentheses that start at an offset."""
    depth = 0
    for i in range(at, len(code)):
        depth += (code[i] == "(") - (code[i] == ")")
        if depth == 0:
            return i + 1
    return len(code)


@cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_cuda

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_cuda.language()))


def _function(unit: _Unit, node: Node, certain: bool) -> _Function | None:
    declarator = node.child_by_field_name("declarator")
    while declarator is not None and declarator.type in (
        "pointer_declarator",
        "reference_declarator",
    ):
        declarator = declarator.named_children[-1]
    if declarator is None or declarator.type != "function_declarator":
        return None
    name = declarator.child_by_field_name("declarator")
    returned = node.child_by_field_name("type")
    if name is None or name.type != "identifier" or returned is None:
        return None
    before = unit.code[node.start_byte : name.start_byte]
    marks = frozenset(_MARKS.intersection(re.findall(r"\w+", before)))
    is_template = node.parent is not None and node.parent.type == "template_declaration"
    return _Function(
        name=_written(name),
        node=node,
        marks=marks,
        returns=_written(returned),
        certain=certain and _is_certain(unit, node, returned, before),
        constexpr=re.search(r"\bconst(?:expr|eval)\b", before) is not None,
        is_template=is_template,
    )


def _is_certain(unit: _Unit, node: Node, returned: Node, before: str) -> bool:
    """Whether nothing before a function's name can be a macro that says where it runs."""
    if any(child.type == "ERROR" for child in node.children):
        return False
    type_text = _written(returned)
    if not unit.macros.isdisjoint(re.findall(r"\w+", before)):
        return False
    if returned.type == "type_identifier" and type_text.isupper() and len(type_text) > 1:
        return False
    words = set(re.findall(r"\w+", before.replace(type_text, " ", 1)))
    if words - _NEUTRAL - _BUILTIN - _MARKS - {"const", "constexpr", "consteval"}:
        return False
    start = node
    while start.parent is not None and start.parent.type in (
        "template_declaration",
        "linkage_specification",
    ):
        start = start.parent
    prefix = unit.code[: start.start_byte].rstrip()
    directive = prefix[prefix.rfind("\n") + 1 :].lstrip().startswith("#")
    return not prefix or prefix[-1] in ";{}" or directive


def _looks_declared(tokens: list[Token], at: int) -> bool:
    """Whether a name's neighbours are those of a declared function."""
    if at + 1 >= len(tokens) or tokens[at + 1].text != "(" or at == 0:
        return False
    before = tokens[at - 1]
    if before.text in ("*", "&", "&&", ">") and at >= 3:
        return tokens[at - 2].is_name and (
            tokens[at - 3].is_name or tokens[at - 3].text in ";{}>,<:::"
        )
    if before.text == ")":  # After an attribute or a macro.
        return True
    return before.is_name and before.text not in ("return", "else", "case", "do", "throw", "goto")


# ---- the rules ----


def _kernels(unit: _Unit) -> Iterator[Refusal]:
    """What a kernel may not be, wherever it is called."""
    for function in unit.functions:
        if "__global__" not in function.marks or function.node.has_error or not function.certain:
            continue
        line = function.node.start_point[0] + 1
        declarator = function.node.child_by_field_name("declarator")
        returned = function.returns.split()
        if returned != ["void"] and _BUILTIN.issuperset(returned):
            yield Refusal("a __global__ function must have a void return type", line)
        if declarator is None or declarator.type != "function_declarator":
            continue
        parameters = declarator.child_by_field_name("parameters")
        for parameter in parameters.named_children if parameters is not None else ():
            kind = parameter.child_by_field_name("declarator")
            if kind is not None and kind.type.endswith("reference_declarator"):
                message = "a __global__ function cannot have a parameter with reference type"
                yield Refusal(message, parameter.start_point[0] + 1)


def _initialized_shared(unit: _Unit) -> Iterator[Refusal]:
    for match in re.finditer(r"\b__shared__\b[^;{}()=<>!]*=(?!=)", unit.code):
        node = unit.root.descendant_for_byte_range(match.start(), match.end() - 1)
        inside = _around(node, "function_definition") if node is not None else None
        if inside is not None and not inside.has_error:
            line = line_of(unit.code, match.start())
            yield Refusal("initializer not allowed for __shared__ variable", line)


def _calls(unit: _Unit, caller: _Function) -> Iterator[Refusal]:
    """What a function may not call or launch."""
    own = _own_names(caller.node)
    for call, name, launched in _called(caller):
        callees = unit.named(name) if name not in own else []
        if not callees:
            continue
        message = _judge(unit, caller, callees, launched)
        if message is not None:
            yield Refusal(message, call.start_point[0] + 1)


def _judge(unit: _Unit, caller: _Function, callees: list[_Function], launched: bool) -> str | None:
    """Why a call or launch is refused; none where it may be right."""
    name = callees[0].name
    kernels = ["__global__" in callee.marks for callee in callees]
    if launched:
        kind = "__device__" if callees[0].kind == "__device__" else "host"
        return None if any(kernels) else f'a {kind} function("{name}") call cannot be configured'
    if any(kernels):
        refused = f'a __global__ function("{name}") call must be configured'
        return refused if all(kernels) else None
    kinds = {callee.kind for callee in callees}
    if len(kinds) > 1 or any(callee.constexpr for callee in callees) or caller.constexpr:
        return None
    kind = kinds.pop()
    refused = f'calling a {kind} function("{name}") from a {caller.kind} function("{caller.name}")'
    refused += " is not allowed"
    if kind == "__host__" and caller.kind in ("__global__", "__device__"):
        return refused if _is_compiled(unit, caller) else None
    if kind == "__device__" and caller.kind == "__host__" and caller.certain:
        return refused if _is_compiled(unit, caller) else None
    return None


def _is_compiled(unit: _Unit, function: _Function) -> bool:
    """Whether nvcc looks into a function: not into templates that nothing uses."""
    always = not function.is_template and function.kind != "__device__"
    return always or unit.mentions(function.name) > 1


def _globals(unit: _Unit, function: _Function) -> Iterator[Refusal]:
    """Variables of the host that a function of the device uses."""
    of_device = function.kind in ("__global__", "__device__")
    if not of_device or not _is_compiled(unit, function):
        return
    hosts = _host_variables(unit)
    own = _own_names(function.node)
    for node in _evaluated(function.body):
        name = _written(node) if node.type == "identifier" else ""
        if name in hosts and name not in own:
            message = f'identifier "{name}" is undefined in device code'
            yield Refusal(message, node.start_point[0] + 1)


def _host_variables(unit: _Unit) -> set[str]:
    """The names that are certainly variables of the host's memory and nothing else."""
    found: list[str] = []
    for node, certain in unit.variables:
        names = _declared(node)
        kind = node.child_by_field_name("type")
        first = node.child_by_field_name("declarator")
        if kind is None or first is None:
            continue
        before = set(re.findall(r"\w+", unit.code[node.start_byte : first.start_byte]))
        is_plain = before <= (_BUILTIN | {"static", "inline"})
        is_function = any(n.type == "function_declarator" for n in _walk(node))
        if certain and is_plain and not is_function and not node.has_error:
            found += names
    return {name for name in found if found.count(name) == 1 and name not in unit.macros}


# ---- within functions ----


def _called(function: _Function) -> Iterator[tuple[Node, str, bool]]:
    """The calls of plain names: the call, the name, and whether it is a launch."""
    for node in _evaluated(function.body):
        if node.type != "call_expression":
            continue
        called = node.child_by_field_name("function")
        if called is not None and called.type == "template_function":
            called = called.child_by_field_name("name")
        if called is not None and called.type == "identifier":
            launched = any(child.type == "kernel_call_syntax" for child in node.children)
            yield node, _written(called), launched


def _evaluated(node: Node | None) -> Iterator[Node]:
    """The nodes that are certainly compiled where they stand."""
    stack = [node] if node is not None else []
    while stack:
        current = stack.pop()
        if current.type in _UNEVALUATED or current.type in _CONDITIONAL:
            continue
        if current.type in ("template_argument_list", "if_constexpr", "class_specifier"):
            continue
        if current.type == "struct_specifier" or _is_constexpr_if(current):
            continue
        if current.type == "lambda_expression" and _is_marked(current):
            continue
        yield current
        stack.extend(reversed(current.children))


def _is_constexpr_if(node: Node) -> bool:
    return node.type == "if_statement" and any(c.type == "constexpr" for c in node.children)


def _is_marked(node: Node) -> bool:
    """Whether a lambda says itself where it runs."""
    head = _written(node).split("{")[0]
    return any(mark in head for mark in _MARKS)


def _own_names(function: Node) -> set[str]:
    """The names that a function declares itself, its template parameters among them."""
    names: set[str] = set()
    for node in _walk(function):
        if node.type in _DECLARING:
            names.update(_declared(node))
        elif node.type in ("alias_declaration", "lambda_capture_initializer", "using_declaration"):
            names.update(re.findall(r"\w+", _written(node)))
    parent = function.parent
    while parent is not None and parent.type == "template_declaration":
        parameters = parent.child_by_field_name("parameters")
        names.update(re.findall(r"\w+", _written(parameters)) if parameters is not None else ())
        parent = parent.parent
    return names


def _declared(node: Node) -> Iterator[str]:
    """The names that a declaration declares."""
    for declarator in node.children_by_field_name("declarator"):
        inner: Node | None = declarator
        while inner is not None and inner.type not in (
            "identifier",
            "structured_binding_declarator",
        ):
            deeper = inner.child_by_field_name("declarator")
            named = inner.named_children
            inner = deeper or (named[-1] if named and inner.type in _WRAPPING else None)
        if inner is not None:
            yield from re.findall(r"\w+", _written(inner))


def _around(node: Node, kind: str) -> Node | None:
    """The nearest node of a kind around another."""
    parent = node.parent
    while parent is not None and parent.type != kind:
        parent = parent.parent
    return parent


def _walk(node: Node) -> Iterator[Node]:
    """Every node below and including one, in the order of the text."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(current.children))


def _written(node: Node) -> str:
    return (node.text or b"").decode("ascii")
