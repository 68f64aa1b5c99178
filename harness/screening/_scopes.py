"""Finds names that nothing defines.

Follows Python's own scoping: module, class, function and comprehension scopes, ``global``,
walrus targets, ``except`` names, match captures, annotations that are never evaluated.
Where in doubt a name counts as defined. Does not follow values, nor look into other files.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_PREDEFINED = frozenset(dir(builtins)) | {
    "__name__",
    "__file__",
    "__doc__",
    "__package__",
    "__spec__",
    "__loader__",
    "__builtins__",
    "__annotations__",
    "__cached__",
    "__dict__",
}
_CLASS_NAMES = frozenset({"__class__", "__module__", "__qualname__"})
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass
class _Scope:
    kind: str
    parent: _Scope | None = None
    bound: dict[str, int] = field(default_factory=dict)
    globals: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Use:
    """One place where a name is read."""

    name: str
    node: ast.Name
    function: ast.AST | None
    """The outermost function around it, None where it is read as the module loads."""
    certain: bool
    """Whether it is read whenever that function runs."""
    early: bool = False
    """Whether the module does define the name, but only after this place."""


@dataclass
class Names:
    """What the analysis found."""

    undefined: list[Use]
    """Reads of names that nothing defines, in the order of the text."""
    opaque: bool
    """Whether names may come into being in a way that cannot be followed."""
    certain_mentions: dict[ast.AST | None, set[str]]
    """Identifiers that each outermost function (None: the module) is sure to read."""


def find_undefined(tree: ast.Module) -> Names:
    """Lists the reads of names that no scope defines."""
    walker = _Walker(tree)
    walker.run()
    undefined = [use for use, scope, _ in walker.uses if not _is_defined(use, scope, walker)]
    early = [
        Use(use.name, use.node, use.function, use.certain, early=True)
        for use, scope, order in walker.uses
        if use.function is None
        and use.certain
        and (scope.kind == "module" or (scope.kind == "class" and use.name not in scope.bound))
        and use.name not in _PREDEFINED
        and walker.module.bound.get(use.name, -1) > order
    ]
    found = sorted(undefined + early, key=lambda use: (use.node.lineno, use.node.col_offset))
    return Names(found, walker.opaque, walker.mentions)


def _is_defined(use: Use, scope: _Scope, walker: _Walker) -> bool:
    name = use.name
    if name in _PREDEFINED or name in walker.module.bound:
        return True
    current: _Scope | None = scope
    while current is not None:
        visible = current is scope or current.kind != "class"
        if visible and name in current.bound and name not in current.globals:
            return True
        if name in _CLASS_NAMES and current.kind == "class":
            return True
        current = current.parent
    return False


class _Walker(ast.NodeVisitor):
    """Visits the tree in the order of execution and records bindings and reads."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.module = _Scope("module")
        self.scope = self.module
        self.function: ast.AST | None = None
        self.certain = True
        self.order = 0
        self.opaque = False
        self.uses: list[tuple[Use, _Scope, int]] = []
        self.mentions: dict[ast.AST | None, set[str]] = {}
        self.lazy_annotations = any(
            isinstance(node, ast.ImportFrom)
            and node.module == "__future__"
            and any(alias.name == "annotations" for alias in node.names)
            for node in tree.body
        )

    def run(self) -> None:
        self._block(self.tree.body)

    # Bindings and reads.

    def _bind(self, name: str) -> None:
        self.order += 1
        scope = self.scope
        order = self.order
        if name in scope.globals:
            # Bound from a function, at a time that is not known: as if from the start.
            scope, order = self.module, 0
        scope.bound.setdefault(name, order)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id)
            return
        self.order += 1
        use = Use(node.id, node, self.function, self.certain)
        self.uses.append((use, self.scope, self.order))
        if self.certain:
            self.mentions.setdefault(self.function, set()).add(node.id)
        if node.id in ("exec", "globals", "vars", "locals"):
            self.opaque = True

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.visit(node.value)
        if self.certain:
            self.mentions.setdefault(self.function, set()).add(node.attr)
        of_sys = isinstance(node.value, ast.Name) and node.value.id == "sys"
        if node.attr in ("__dict__", "__builtins__", "_convert_") or (
            of_sys and node.attr == "modules"
        ):
            self.opaque = True

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name.split(".")[0])
            self.opaque |= alias.name == "builtins"

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.opaque = True
            else:
                self._bind(alias.asname or alias.name)

    def visit_Global(self, node: ast.Global) -> None:
        if self.scope is not self.module:
            self.scope.globals.update(node.names)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.generic_visit(node)
        if node.name:
            self._bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest:
            self._bind(node.rest)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        inner = self.scope
        while self.scope.kind == "comprehension" and self.scope.parent is not None:
            self.scope = self.scope.parent
        self._bind(node.target.id)
        self.scope = inner

    # Statements, in the order of execution.

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        if self.scope.kind != "function":
            self._annotation(node.annotation)
        self.visit(node.target)

    def _annotation(self, node: ast.expr | None) -> None:
        if node is not None and not self.lazy_annotations:
            self.visit(node)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self.visit(node.target)
        self._block(node.body)
        self._maybe(node.orelse)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.visit(node.target)
        self._block(node.body)
        self._maybe(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._maybe(node.body)
        self._maybe(node.orelse)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item)
        self._block(node.body)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._maybe(node.body)
        self._maybe(node.orelse)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        self._maybe(node.cases)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self._maybe([node.body, node.orelse])

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        self._maybe(node.values[1:])

    def visit_Try(self, node: ast.Try) -> None:
        if node.handlers:
            self._maybe(node.body)
        else:
            self._block(node.body)
        for handler in node.handlers:
            self._maybe([handler])
        self._maybe(node.orelse)
        self._block(node.finalbody)

    def visit_TryStar(self, node: ast.AST) -> None:
        self.visit_Try(node)  # type: ignore[arg-type]

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        if node.name:
            self._bind(node.name)
        self._block(node.body)

    # Scopes.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)  # type: ignore[arg-type]

    def _function(self, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._type_parameters(node)
        self._defaults(node.args)
        for argument in _all_arguments(node.args):
            self._annotation(argument.annotation)
        self._annotation(node.returns)
        self._bind(node.name)
        self._body(node, node.args, node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        self._body(node, node.args, [node.body])

    def _body(self, node: ast.AST, args: ast.arguments, body: Sequence[ast.AST]) -> None:
        saved = self.scope, self.function, self.certain
        nested = self.function is not None or isinstance(node, ast.Lambda)
        self.scope = _Scope("function", self.scope)
        self.function = self.function or node
        # Whether an inner function ever runs is not known.
        self.certain = not nested
        for argument in _all_arguments(args):
            self._bind(argument.arg)
        self._block(body)
        self.scope, self.function, self.certain = saved

    def _defaults(self, args: ast.arguments) -> None:
        for default in (*args.defaults, *args.kw_defaults):
            if default is not None:
                self.visit(default)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        self._type_parameters(node)
        outer, self.scope = self.scope, _Scope("class", self.scope)
        self._block(node.body)
        self.scope = outer
        self._bind(node.name)

    def _type_parameters(self, node: ast.AST) -> None:
        for parameter in getattr(node, "type_params", ()):
            self._bind(parameter.name)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, _COMPREHENSIONS):
            self._comprehension(node)
        else:
            super().generic_visit(node)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        self.visit(node.generators[0].iter)
        outer, self.scope = self.scope, _Scope("comprehension", self.scope)
        for index, generator in enumerate(node.generators):
            if index:
                self.visit(generator.iter)
            self.visit(generator.target)
            self._maybe(generator.ifs)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._maybe(parts)
        self.scope = outer

    # What is certain to run.

    def _block(self, statements: Sequence[ast.AST]) -> None:
        """Visits statements; after one that may return, nothing more is certain."""
        saved = self.certain
        for statement in statements:
            self.visit(statement)
            if self.function is not None and _may_leave(statement):
                self.certain = False
        self.certain = saved

    def _maybe(self, nodes: Iterable[ast.AST]) -> None:
        saved, self.certain = self.certain, False
        for node in nodes:
            self.visit(node)
        self.certain = saved


def _all_arguments(args: ast.arguments) -> list[ast.arg]:
    found = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    return found + [extra for extra in (args.vararg, args.kwarg) if extra is not None]


def _may_leave(statement: ast.AST) -> bool:
    """Whether a statement can return from its function without failing."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return any(isinstance(node, ast.Return) for node in ast.walk(statement))
