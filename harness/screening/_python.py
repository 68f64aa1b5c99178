"""Checks the Python side: syntax, ModelNew, names, imports, leftovers.

Does not run anything. Words in comments and strings are never looked at.
"""

from __future__ import annotations

import ast
import sys
import warnings

from harness.records import Finding, Place, Severity, Stage
from harness.screening._module import FunctionNode, Module, Unit, is_mentioned
from harness.screening._report import ERROR, NOTE, WARNING, finding, listed
from harness.screening._scopes import Names, Use, find_undefined
from harness.syntax import parse_module

_ALLOWED = frozenset(sys.stdlib_module_names) | {"torch", "__future__"}
_COMES_WITH_TORCH = frozenset(
    {
        "numpy",
        "typing_extensions",
        "sympy",
        "mpmath",
        "jinja2",
        "networkx",
        "fsspec",
        "filelock",
        "setuptools",
        "pkg_resources",
        "packaging",
        "ninja",
        "pybind11",
        "triton",
    }
)
_DEBUGGERS = frozenset({"breakpoint", "pdb.set_trace", "pdb.pm", "ipdb.set_trace", "pprint.pprint"})


def parse(candidate: str) -> ast.Module | Finding:
    """Parses a candidate, or says in a finding why it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = parse_module(candidate)
            # Some errors, such as a return outside a function, show in a later pass only.
            compile(candidate, "candidate", "exec", dont_inherit=True)
            return tree
    except SyntaxError as error:
        line = max(error.lineno or 1, 1)
        text = candidate.split("\n")[line - 1 : line]
        return Finding(
            rule="R09",
            severity=ERROR,
            stage=Stage.SCREEN,
            message=f"Syntax error: {error.msg}.",
            advice="Correct the line, and check that the answer was not cut off.",
            place=Place(line=line, column=error.offset if (error.offset or 0) >= 1 else None),
            detail=text[0][:1000] if text else "",
        )
    except (ValueError, RecursionError, MemoryError) as error:
        return finding(
            "R09",
            ERROR,
            1,
            f"Python cannot parse the code: {str(error) or type(error).__name__}.",
            "Write plain text without null characters, and nest less deeply.",
        )


def check_model_new(module: Module) -> list[Finding]:
    """R11 and R01: a module-level ModelNew that is an nn.Module."""
    model = module.model_new
    if model is None:
        if _is_bound(module, "ModelNew"):
            return []
        classes = listed(module.classes) or "none"
        return [
            finding(
                "R11",
                ERROR,
                None,
                f"There is no class ModelNew at module level (classes: {classes}).",
                "Name the new architecture ModelNew and define it at module level.",
            )
        ]
    if _is_no_module(module, model):
        return [
            finding(
                "R01",
                ERROR,
                model,
                "ModelNew is not a subclass of nn.Module.",
                "Derive ModelNew from torch.nn.Module.",
            )
        ]
    return []


def check_names(module: Module) -> list[Finding]:
    """R09: names that nothing defines, one finding for each."""
    names = find_undefined(module.tree)
    certain = _certain_functions(module, names)
    uses: dict[str, list[Use]] = {}
    for use in names.undefined:
        uses.setdefault(use.name, []).append(use)
    found = []
    for name, places in uses.items():
        sure = [u for u in places if u.certain and (u.function is None or u.function in certain)]
        worst = (sure or places)[0]
        severity = ERROR if sure and not names.opaque else WARNING
        found.append(_name_finding(name, worst, places, severity))
    return found


def _name_finding(name: str, use: Use, places: list[Use], severity: Severity) -> Finding:
    others = sorted({u.node.lineno for u in places} - {use.node.lineno})
    more = f" (also on line {listed(others)})" if others else ""
    if use.early:
        message = f"The name {name} is used before the module defines it{more}."
        return finding("R09", severity, use.node, message, "Move its definition further up.")
    advice = "Define or import it before it is used."
    if name in sys.stdlib_module_names:
        advice = f"Add `import {name}`."
    elif name in ("F", "nn", "np"):
        modules = {"F": "torch.nn.functional", "nn": "torch.nn", "np": "numpy"}
        advice = f"Import {modules[name]} as {name}, or do without it."
    return finding("R09", severity, use.node, f"The name {name} is not defined{more}.", advice)


def _certain_functions(module: Module, names: Names) -> set[ast.AST]:
    """Functions that are sure to run when the candidate is loaded, built and called."""
    model = module.model_new
    owners = module.chain(model) if model is not None else []
    roots = {
        unit.node
        for unit in module.units
        if unit.name in ("__init__", "forward") and any(unit.owner is cls for cls in owners)
    }
    owner_of: dict[ast.AST, ast.ClassDef | None] = {u.node: u.owner for u in module.units}
    reached: set[ast.AST] = set(roots)
    queue: list[ast.AST | None] = [None, *roots]
    while queue:
        node = queue.pop()
        mentioned = frozenset(names.certain_mentions.get(node, set()))
        mentioned |= _behind_aliases(module, mentioned)
        owner = None if node is None else owner_of.get(node)
        family = [] if owner is None else module.chain(owner)  # its own class and bases
        waiting = (u for u in module.units if u.node not in reached)
        found = [u.node for u in waiting if _is_run(u, mentioned, family)]
        reached.update(found)
        queue += found
    return reached


def _is_run(unit: Unit, mentioned: frozenset[str], family: list[ast.ClassDef]) -> bool:
    """Whether what is mentioned is sure to run a unit.

    A method that shares its name with something mentioned counts only within its own class.
    """
    if unit.owner is not None and unit.owner.name not in mentioned:
        return unit.name in mentioned and any(unit.owner is cls for cls in family)
    return is_mentioned(unit, mentioned)


def _behind_aliases(module: Module, names: frozenset[str]) -> frozenset[str]:
    """``conv = Conv.apply`` at module level: who reads conv runs Conv."""
    values = [module.assigned[name] for name in names if name in module.assigned]
    return frozenset(
        node.id
        for value in values
        if isinstance(value, ast.Attribute | ast.Name)
        for node in ast.walk(value)
        if isinstance(node, ast.Name)
    )


def check_imports(module: Module) -> list[Finding]:
    """R08: third-party imports."""
    found: list[Finding] = []
    own_level = {id(statement) for statement in module.tree.body}
    for node in module.nodes:
        if isinstance(node, ast.Import):
            names = [
                (alias.name.split(".")[0], alias.asname or alias.name.split(".")[0])
                for alias in node.names
            ]
        elif isinstance(node, ast.ImportFrom):
            bound = [alias.asname or alias.name for alias in node.names]
            names = [
                ((node.module or "").split(".")[0] if not node.level else ".", b) for b in bound
            ]
        else:
            continue
        for package, name in dict(names).items():
            if package not in _ALLOWED:
                found.append(_import_finding(module, node, package, name, id(node) in own_level))
    return found


def _import_finding(
    module: Module, node: ast.stmt, package: str, name: str, unconditional: bool
) -> Finding:
    advice = "Use Python's standard library, PyTorch and CUDA only."
    if package == ".":
        message = "A relative import cannot work: the candidate is one file."
        return finding("R08", ERROR if unconditional else WARNING, node, message, advice)
    if package == "triton":
        message = "The code imports triton, which is not a CUDA extension."
        return finding("R08", WARNING, node, message, "Write the kernel in CUDA.")
    severity = ERROR if unconditional else WARNING
    if package in _COMES_WITH_TORCH:
        computes = package == "numpy" and any(
            name in module.mentions(unit.node) for unit in module.compute_units
        )
        severity = ERROR if computes and unconditional else WARNING
    message = f"The code imports {package}, a third-party package."
    return finding("R08", severity, node, message, advice)


def check_leftovers(module: Module) -> list[Finding]:
    """R10: prints, debuggers, test code."""
    found: list[Finding] = []
    own = {s.name for s in module.module_statements if isinstance(s, FunctionNode)}
    for node in module.nodes:
        if isinstance(node, ast.Call):
            name = module.dotted(node.func)
            if name == "print" and "print" not in own:
                found.append(finding("R10", WARNING, node, "A print call is left.", "Take it out."))
            elif name in _DEBUGGERS:
                found.append(
                    finding("R10", WARNING, node, f"A call of {name} is left.", "Take it out.")
                )
        elif isinstance(node, ast.If) and _is_main_guard(node.test):
            message = "Code under `if __name__ == '__main__'` is left."
            found.append(finding("R10", WARNING, node, message, "Take the test code out."))
        elif isinstance(node, FunctionNode) and node.name.startswith("test_"):
            message = f"The test function {node.name} is left."
            found.append(finding("R10", NOTE, node, message, "Take it out."))
    return found


def _is_main_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and any(
        isinstance(part, ast.Name) and part.id == "__name__"
        for part in (test.left, *test.comparators)
    )


def _is_bound(module: Module, name: str) -> bool:
    """Whether the module level binds a name in a way that may well be a class."""
    if name in module.aliases:
        return True
    for statement in module.module_statements:
        for node in ast.walk(statement):
            if isinstance(node, FunctionNode) and node is statement and node.name == name:
                return False
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
                return _may_be_class(module, name)
    # exec, globals()["ModelNew"] = ...: cannot be followed.
    return find_undefined(module.tree).opaque and name in module.text


def _may_be_class(module: Module, name: str) -> bool:
    value = module.assigned.get(name)
    return not isinstance(value, ast.Constant | ast.Lambda | ast.List | ast.Dict)


def _is_no_module(module: Module, cls: ast.ClassDef) -> bool:
    """Whether a class is certain not to be an nn.Module: only known, other bases."""
    if cls.decorator_list or cls.keywords:
        return False
    for current in module.chain(cls):
        if current.decorator_list or current.keywords:
            return False
        for base in current.bases:
            name = module.dotted(base)
            if name in module.classes or name in ("object", "torch.autograd.Function"):
                continue
            return False
    return True
