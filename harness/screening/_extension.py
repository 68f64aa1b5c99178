"""Finds the extensions that a candidate builds, and resolves their sources.

Covers ``load_inline`` and ``load`` under any import name. Checks how they are called:
arguments, and that every bound function is declared where the generated bindings need it
(``load_inline`` puts them behind ``cpp_sources`` in one C++ file, whatever ``cuda_sources``
holds). Does not look into the CUDA text itself (``_cuda`` does), nor build anything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from harness.records import Finding
from harness.screening._clike import without_comments
from harness.screening._module import Module
from harness.screening._report import ERROR, NOTE, WARNING, finding
from harness.screening._text import Resolver, Text

_POSITIONS = {
    "load_inline": ("name", "cpp_sources", "cuda_sources", "sycl_sources", "functions"),
    "load": ("name", "sources"),
}
_SOURCE_MARKS = ("__global__", "#include", "PYBIND11_MODULE", "torch::Tensor", "at::Tensor")


@dataclass
class Extension:
    """One call that builds an extension."""

    kind: str
    """``load_inline`` or ``load``."""
    call: ast.Call
    arguments: dict[str, ast.expr]
    open_ended: bool
    """Whether arguments are passed by ``*`` or ``**``."""
    cpp: list[Text] = field(default_factory=list)
    cuda: list[Text] = field(default_factory=list)
    functions: list[tuple[str, int]] | None = None
    """The names to be bound with their lines; None where there are none or they are unknown."""
    binds: bool = False
    """Whether a ``functions`` argument is given at all."""

    @cached_property
    def exact(self) -> bool:
        """Whether all of its sources could be resolved."""
        return (
            self.kind == "load_inline"
            and not self.open_ended
            and all(text.exact for text in (*self.cpp, *self.cuda))
        )


class Extensions:
    """All that a candidate has of native source."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._parents = {
            child: parent for parent in module.nodes for child in ast.iter_child_nodes(parent)
        }
        # By function (None: the module), as a source is looked up as often as its text is long.
        self._bound: dict[ast.AST | None, dict[str, list[ast.expr] | None]] = {
            None: _assignments(module.module_statements)
        }
        self._resolver = Resolver(module.text, self._bindings)
        self.found = [self._extension(kind, call) for kind, call in self._calls()]

    @cached_property
    def mentioned(self) -> bool:
        """Whether torch's extension API is named anywhere in code (not: in strings)."""
        for node in self._module.nodes:
            name = self._module.dotted(node) if isinstance(node, ast.Attribute | ast.Name) else ""
            if "cpp_extension" in name or name.endswith("load_inline"):
                return True
        return any("cpp_extension" in name for name in self._module.aliases.values())

    @cached_property
    def exact(self) -> bool:
        """Whether every source of every extension is known to the letter."""
        return bool(self.found) and all(extension.exact for extension in self.found)

    @cached_property
    def texts(self) -> list[Text]:
        """The native sources: resolved ones, and loose strings where some are not."""
        texts = [t for extension in self.found for t in (*extension.cpp, *extension.cuda)]
        if not self.exact:
            texts += self._loose([text.value for text in texts])
        return texts

    def _loose(self, known: list[str]) -> list[Text]:
        """String constants that read like native source and are part of no known text."""
        found: list[Text] = []
        for node in self._module.nodes:
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and any(mark in node.value for mark in _SOURCE_MARKS)
                and not isinstance(self._parents.get(node), ast.JoinedStr | ast.Expr)
                and not any(node.value in text for text in known)
            ):
                found.append(self._resolver.text(node))
            elif isinstance(node, ast.JoinedStr):
                text = self._resolver.text(node)
                if any(mark in text.value for mark in _SOURCE_MARKS) and text.value not in known:
                    found.append(text)
        return found

    def _calls(self) -> list[tuple[str, ast.Call]]:
        calls = []
        for node in self._module.nodes:
            if not isinstance(node, ast.Call):
                continue
            name = self._module.dotted(node.func)
            last = name.rsplit(".", 1)[-1]
            if last == "load_inline" or (last == "load" and "cpp_extension" in name):
                calls.append((last, node))
        return sorted(calls, key=lambda item: item[1].lineno)

    def _extension(self, kind: str, call: ast.Call) -> Extension:
        arguments: dict[str, ast.expr] = dict(zip(_POSITIONS[kind], call.args, strict=False))
        arguments |= {k.arg: k.value for k in call.keywords if k.arg is not None}
        open_ended = any(k.arg is None for k in call.keywords) or any(
            isinstance(a, ast.Starred) for a in call.args
        )
        extension = Extension(kind, call, arguments, open_ended)
        if kind == "load_inline":
            extension.cpp = self._resolver.texts(arguments.get("cpp_sources"))
            extension.cuda = self._resolver.texts(arguments.get("cuda_sources"))
            extension.functions = self._functions(arguments.get("functions"))
            extension.binds = not _is_none(arguments.get("functions"))
        return extension

    def _functions(self, node: ast.expr | None) -> list[tuple[str, int]] | None:
        if isinstance(node, ast.Name):
            bound = self._bindings(node.id, node)
            node = bound[0] if len(bound) == 1 else None
        items: list[ast.expr | None]
        if isinstance(node, ast.List | ast.Tuple):
            items = list(node.elts)
        elif isinstance(node, ast.Dict):
            items = list(node.keys)
        elif isinstance(node, ast.Constant):
            items = [node]
        else:
            return None
        return [
            (item.value, item.lineno)
            for item in items
            if isinstance(item, ast.Constant) and isinstance(item.value, str)
        ]

    def _bindings(self, name: str, node: ast.AST) -> list[ast.expr]:
        """What a name is bound to where a node stands: its only value, and later ``+=``."""
        scope: ast.AST | None = node
        while scope is not None:
            scope = self._parents.get(scope)
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                if scope not in self._bound:
                    bound = self._bound[scope] = _assignments(ast.walk(scope))
                    bound |= {a.arg: None for a in ast.walk(scope.args) if isinstance(a, ast.arg)}
                if name in self._bound[scope]:
                    return self._bound[scope][name] or []
        return self._bound[None].get(name) or []


def _assignments(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr] | None]:
    """The values of each name among some statements; None if not one and its additions."""
    plain: dict[str, list[ast.expr]] = {}
    added: dict[str, list[tuple[int, ast.expr]]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign):
            for name in {t.id for t in node.targets if isinstance(t, ast.Name)}:
                plain.setdefault(name, []).append(node.value)
        elif not isinstance(node, ast.AnnAssign | ast.AugAssign) or node.value is None:
            continue
        elif isinstance(node.target, ast.Name):
            if isinstance(node, ast.AugAssign):
                added.setdefault(node.target.id, []).append((node.lineno, node.value))
            else:
                plain.setdefault(node.target.id, []).append(node.value)
    found: dict[str, list[ast.expr] | None] = {}
    for name in plain.keys() | added.keys():
        later = [value for _, value in sorted(added.get(name, []), key=lambda item: item[0])]
        found[name] = plain[name] + later if len(plain.get(name, [])) == 1 else None
    return found


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def check_calls(extensions: Extensions) -> list[Finding]:
    """Checks how the extensions are called."""
    found: list[Finding] = []
    for extension in extensions.found:
        if extension.kind != "load_inline":
            continue
        found += _check_arguments(extension)
        found += _check_declared(extension)
        found += _check_bound(extension)
        verbose = extension.arguments.get("verbose")
        if isinstance(verbose, ast.Constant) and verbose.value is True:
            found.append(
                finding(
                    "R10",
                    NOTE,
                    verbose,
                    "load_inline is called with verbose=True.",
                    "Leave verbose out; it prints the build log.",
                )
            )
    return found


def _check_arguments(extension: Extension) -> list[Finding]:
    if extension.open_ended or not _is_none(extension.arguments.get("cpp_sources")):
        return []
    return [
        finding(
            "build.arguments",
            ERROR,
            extension.call,
            "load_inline is called without cpp_sources, which it requires.",
            "Pass cpp_sources with the declarations of the bound functions.",
        )
    ]


def _check_declared(extension: Extension) -> list[Finding]:
    """Every bound function must be declared in ``cpp_sources``.

    A name that occurs there at all counts as declared: it may come from a macro.
    """
    if not extension.functions or extension.open_ended:
        return []
    cpp = without_comments("\n".join(text.value for text in extension.cpp))
    doubtful = (
        not all(text.exact for text in extension.cpp)
        or "##" in cpp
        or re.search(r'#\s*include\s*"', cpp) is not None
        or re.search(r"\busing\s+namespace\b", cpp) is not None
    )
    found = []
    for name, line in extension.functions:
        if "::" in name or re.search(rf"\b{re.escape(name)}\b", cpp):
            continue
        found.append(
            finding(
                "build.undeclared_function",
                WARNING if doubtful else ERROR,
                line,
                f"functions names {name!r}, but cpp_sources does not declare it, so the "
                "generated bindings cannot compile.",
                f"Put the declaration of {name} into cpp_sources; its definition may stay "
                "in cuda_sources.",
            )
        )
    return found


def _check_bound(extension: Extension) -> list[Finding]:
    """Something must be bound: by ``functions``, a module macro or an operator library."""
    if extension.binds or not extension.exact:
        return []
    text = "\n".join(t.value for t in (*extension.cpp, *extension.cuda))
    if re.search(
        r"PYBIND11_MODULE|TORCH_LIBRARY|PyInit_|TORCH_EXTENSION_NAME|#\s*include\s*\"", text
    ):
        return []
    return [
        finding(
            "build.nothing_bound",
            WARNING,
            extension.call,
            "load_inline is given no functions, and its sources bind none.",
            "Name the functions to be called from Python in functions=[...].",
        )
    ]
