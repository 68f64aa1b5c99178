"""The candidate's Python text with the facts that several checks need.

Classes, functions, imports, and what refers to what. Does not produce findings.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

_METHODS_OF_A_USED_CLASS = frozenset(
    {"__init__", "__new__", "__call__", "__post_init__", "forward", "backward", "setup_context"}
)
"""Methods that run when a class is made, called or applied, without being named."""


@dataclass(frozen=True)
class Unit:
    """A module-level function, or a method of a module-level class."""

    name: str
    node: FunctionNode
    owner: ast.ClassDef | None = None

    @property
    def label(self) -> str:
        """``forward`` or ``ModelNew.forward``."""
        return f"{self.owner.name}.{self.name}" if self.owner else self.name


@dataclass
class Module:
    """A parsed candidate."""

    text: str
    tree: ast.Module
    lines: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = self.text.split("\n")

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def module_statements(self) -> list[ast.stmt]:
        """Statements of the module's own level, those under if, try and with included."""
        found: list[ast.stmt] = []
        stack: list[ast.stmt] = self.tree.body[::-1]
        while stack:
            statement = stack.pop()
            found.append(statement)
            if not isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                stack += reversed(_blocks_of(statement))
        return found

    @cached_property
    def module_names(self) -> frozenset[str]:
        """Names that the module level binds by assignment, def, class or global."""
        names: set[str] = set()
        for statement in self.module_statements:
            if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(statement.name)
                continue
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
            for target in targets:
                if target is not None:
                    names |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
        for node in self.nodes:
            if isinstance(node, ast.Global):
                names |= set(node.names)
        return frozenset(names)

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """Classes of the module level, the last of each name."""
        return {s.name: s for s in self.module_statements if isinstance(s, ast.ClassDef)}

    @cached_property
    def units(self) -> list[Unit]:
        """Functions of the module level and methods of its classes."""
        found = []
        for statement in self.module_statements:
            if isinstance(statement, FunctionNode):
                found.append(Unit(statement.name, statement))
            elif isinstance(statement, ast.ClassDef):
                found += [Unit(m.name, m, statement) for m in methods(statement).values()]
        return found

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Imported names and the dotted names they stand for, from anywhere in the file."""
        found = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    found[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return found

    @cached_property
    def assigned(self) -> dict[str, ast.expr]:
        """Module-level names bound by exactly one plain assignment, and what to."""
        found: dict[str, list[ast.expr]] = {}
        for statement in self.module_statements:
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, []).append(statement.value)
            elif (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and statement.value is not None
            ):
                found.setdefault(statement.target.id, []).append(statement.value)
        return {name: values[0] for name, values in found.items() if len(values) == 1}

    def dotted(self, node: ast.AST) -> str:
        """The dotted name a node stands for, imports resolved; empty for anything else."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.aliases.get(node.id, node.id), *reversed(parts)])

    def chain(self, cls: ast.ClassDef) -> list[ast.ClassDef]:
        """A class and its bases in this file, nearest first."""
        found: list[ast.ClassDef] = []
        queue = [cls]
        while queue:
            current = queue.pop(0)
            if any(current is known for known in found):
                continue
            found.append(current)
            for base in current.bases:
                if isinstance(base, ast.Name) and base.id in self.classes:
                    queue.append(self.classes[base.id])
        return found

    @cached_property
    def model_new(self) -> ast.ClassDef | None:
        """The class that ModelNew stands for, if it is a class of this file."""
        seen: set[str] = set()
        name = "ModelNew"
        while name not in self.classes and name not in seen:
            seen.add(name)
            value = self.assigned.get(name)
            if not isinstance(value, ast.Name):
                return None
            name = value.id
        return self.classes.get(name)

    @cached_property
    def functions_of_autograd(self) -> list[ast.ClassDef]:
        """Classes of the file that derive from torch.autograd.Function."""
        return [
            cls
            for cls in self.nodes
            if isinstance(cls, ast.ClassDef)
            and any(self._is_autograd_base(base) for c in self.chain(cls) for base in c.bases)
        ]

    def _is_autograd_base(self, base: ast.expr) -> bool:
        name = self.dotted(base)
        return name in ("torch.autograd.Function", "torch.autograd.function.Function") or (
            name.endswith("autograd.Function")
        )

    def reached_from(self, roots: list[Unit]) -> list[Unit]:
        """The roots and every unit whose name occurs in one already reached.

        Generous: a name that is mentioned counts as used.
        """
        reached: list[Unit] = []
        queue, known = list(roots), {unit.node for unit in roots}
        while queue:
            unit = queue.pop()
            reached.append(unit)
            names = self.mentions(unit.node)
            found = [u for u in self.units if u.node not in known and is_mentioned(u, names)]
            known |= {u.node for u in found}
            queue += found
        return reached

    def mentions(self, node: ast.AST) -> frozenset[str]:
        """Identifiers that occur in a node, module-level aliases of them included."""
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
        for name in list(names):
            value = self.assigned.get(name)
            if isinstance(value, ast.Name | ast.Attribute):
                names |= {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
        return frozenset(names)

    @cached_property
    def compute_units(self) -> list[Unit]:
        """Everything that runs when ModelNew is called, and in its backward."""
        model = self.model_new
        owners = self.chain(model) if model is not None else []
        return self.reached_from(
            [
                unit
                for unit in self.units
                if (unit.name == "forward" and any(unit.owner is cls for cls in owners))
                or (
                    unit.name in ("forward", "backward")
                    and any(unit.owner is cls for cls in self.functions_of_autograd)
                )
            ]
        )


def is_mentioned(unit: Unit, names: frozenset[str]) -> bool:
    """Whether a set of identifiers leads to a unit."""
    if unit.owner is not None and unit.owner.name in names:
        return unit.name in _METHODS_OF_A_USED_CLASS or unit.name in names
    return unit.name in names and not unit.name.startswith("__")


def methods(cls: ast.ClassDef) -> dict[str, FunctionNode]:
    """The methods that a class defines itself, the last of each name."""
    return {s.name: s for s in cls.body if isinstance(s, FunctionNode)}


def _blocks_of(statement: ast.stmt) -> list[ast.stmt]:
    inner: list[ast.stmt] = []
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for part in getattr(statement, name, []):
            if isinstance(part, ast.stmt):
                inner.append(part)
            else:
                inner += part.body
    return inner
