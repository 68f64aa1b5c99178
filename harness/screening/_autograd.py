"""Checks the backward pass: is there one, and does it do its own work.

An error only where a backward hands its work back to autograd for certain; a call of its own
``apply`` alone is legitimate (a self-adjoint operator). Does not check that gradients are
right; that is measured.
"""

from __future__ import annotations

import ast
import re

from harness.records import Finding
from harness.screening._cuda import Native
from harness.screening._module import FunctionNode, Module, Unit, methods
from harness.screening._report import ERROR, WARNING, finding

_REGISTRATIONS = frozenset({"register_autograd", "custom_op", "register_backward", "custom_grad"})
_NATIVE_BACKWARD = r"\bautograd::Function\b|\btorch::autograd::\w+|\bTORCH_LIBRARY_IMPL\b"
_OWN = "Compute the gradients with kernels of your own from the saved tensors."


def has_backward(module: Module, native: Native) -> bool:
    """Whether the candidate has a backward of any form: in Python, registered, or in C++."""
    if any(_backward_of(module, cls) for cls in module.functions_of_autograd):
        return True
    if module.mentions(module.tree) & _REGISTRATIONS:
        return True
    return re.search(_NATIVE_BACKWARD, native.code) is not None


def check_backward(module: Module, native: Native) -> list[Finding]:
    """R06, for every autograd.Function of the file."""
    found: list[Finding] = []
    if module.model_new is not None and not has_backward(module, native):
        found.append(
            finding(
                "R06",
                WARNING,
                module.model_new,
                "There is no backward: no autograd.Function has one, and none is registered.",
                "Wrap the kernels in a torch.autograd.Function with forward and backward.",
            )
        )
    for cls in module.functions_of_autograd:
        backward = _backward_of(module, cls)
        if backward is None:
            continue
        found += _check_own_work(module, cls, backward)
        if _gives_nothing(backward):
            found.append(
                finding(
                    "R06",
                    WARNING,
                    backward,
                    f"{cls.name}.backward returns None for every input.",
                    _OWN,
                )
            )
    return found


def _backward_of(module: Module, cls: ast.ClassDef) -> FunctionNode | None:
    for current in module.chain(cls):
        own = methods(current)
        if (method := own.get("backward") or own.get("vjp")) is not None:
            return method
    return None


def _check_own_work(module: Module, cls: ast.ClassDef, backward: FunctionNode) -> list[Finding]:
    """Looks for autograd at work inside a backward, and for the Function calling itself."""
    units = module.reached_from([Unit("backward", backward, cls)])
    # What the forward of another Function does is not this backward's work.
    inside = [u.node for u in units if u.node is backward or u.owner is None]
    autograd = [c for n in inside for c in _calls(n) if _is_autograd(module, c)]
    own = [c for n in inside for c in _calls(n) if _applies(module, c, cls)]
    others = [
        c
        for n in inside
        for c in _calls(n)
        for other in module.functions_of_autograd
        if other is not cls and _applies(module, c, other)
    ]
    always = {id(node) for function in inside for node in _unconditional(function)}
    sure = any(id(call) in always for call in autograd)
    if autograd and own:
        return [
            finding(
                "R06",
                ERROR if sure else WARNING,
                own[0],
                f"{cls.name}.backward calls {cls.name}.apply and differentiates the result, "
                f"which runs the same backward again, without end (autograd on line "
                f"{autograd[0].lineno}).",
                _OWN,
            )
        ]
    if autograd:
        return [
            finding(
                "R06",
                ERROR if sure and not others else WARNING,
                autograd[0],
                f"{cls.name}.backward hands its work back to PyTorch's autograd.",
                _OWN,
            )
        ]
    if own:
        return [
            finding(
                "R06",
                WARNING,
                own[0],
                f"{cls.name}.backward calls {cls.name}.apply, which is right only for an "
                "operator that is its own adjoint.",
                _OWN,
            )
        ]
    return []


def _calls(node: ast.AST) -> list[ast.Call]:
    calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return sorted(calls, key=lambda call: (call.lineno, call.col_offset))


def _is_autograd(module: Module, call: ast.Call) -> bool:
    name = module.dotted(call.func)
    if name in ("torch.autograd.grad", "torch.autograd.backward", "torch.func.vjp"):
        return True
    if name in ("torch.func.grad", "torch.autograd.functional.vjp"):
        return True
    # ``output.backward(grad)``; ``extension.backward(...)`` is the name of a bound function.
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "backward"
        and _is_made_here(module, call.func.value)
    )


def _is_made_here(module: Module, node: ast.expr) -> bool:
    """Whether a value is surely a tensor of this function: made by ``apply``, say."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in ("apply", "sum", "mean")
    if not isinstance(node, ast.Name):
        return False
    known = node.id in module.assigned or node.id in module.aliases
    return not known and any(
        isinstance(other, ast.Assign)
        and isinstance(other.value, ast.Call)
        and isinstance(other.value.func, ast.Attribute)
        and other.value.func.attr == "apply"
        and any(isinstance(t, ast.Name) and t.id == node.id for t in other.targets)
        for other in module.nodes
    )


def _applies(module: Module, call: ast.Call, cls: ast.ClassDef) -> bool:
    """Whether a call is ``Cls.apply(...)``, also through a module-level alias of it."""
    target: ast.expr = call.func
    if isinstance(target, ast.Name):
        target = module.assigned.get(target.id, target)
    if not (isinstance(target, ast.Attribute) and target.attr == "apply"):
        return False
    return isinstance(target.value, ast.Name) and target.value.id == cls.name


def _unconditional(function: FunctionNode) -> list[ast.AST]:
    """Nodes of a function that run whenever it does."""
    found: list[ast.AST] = []
    queue: list[ast.AST] = list(function.body)
    branches = (ast.If, ast.Try, ast.While, ast.IfExp, ast.BoolOp, ast.Lambda, ast.Match)
    while queue:
        node = queue.pop()
        if isinstance(node, (*branches, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        found.append(node)
        queue += list(ast.iter_child_nodes(node))
    return found


def _gives_nothing(backward: FunctionNode) -> bool:
    returns = [node for node in ast.walk(backward) if isinstance(node, ast.Return)]
    return bool(returns) and all(_is_nothing(node.value) for node in returns)


def _is_nothing(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Tuple):
        return all(_is_nothing(item) for item in value.elts)
    return value is None or (isinstance(value, ast.Constant) and value.value is None)
