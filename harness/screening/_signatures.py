"""Compares ModelNew's constructor and forward with the reference's, by their text.

A candidate must accept every call that the reference accepts: positionally, by keyword,
and with defaults left out. Does not run anything; what decorators or unknown bases change
cannot be seen, and is left to the interface stage.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from harness.errors import ProblemError
from harness.records import Finding, Severity
from harness.screening._module import FunctionNode, Module, methods
from harness.screening._report import ERROR, WARNING, finding
from harness.syntax import parse_module

_KEEPS_SIGNATURE = frozenset(
    {"no_grad", "enable_grad", "inference_mode", "custom_fwd", "custom_bwd", "autocast", "override"}
)
_ADVICE = "Give it the reference's parameters: {wanted}."


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor or of forward."""

    name: str
    kind: str
    """``positional`` (also by keyword), ``positional_only``, ``keyword_only``, ``args``,
    ``kwargs``."""
    has_default: bool = False
    default: str = ""
    """The default as source text."""

    def __str__(self) -> str:
        """As it stands in a parameter list."""
        star = {"args": "*", "kwargs": "**"}.get(self.kind, "")
        return f"{star}{self.name}" + (f"={self.default}" if self.has_default else "")


@dataclass(frozen=True)
class Signature:
    """The parameters, without ``self``, of a module's constructor and of its forward."""

    init: tuple[Parameter, ...]
    forward: tuple[Parameter, ...]


def signature_of(reference_source: str) -> Signature:
    """Reads the signature of ``Model`` from a problem's source.

    Raises:
        ProblemError: The source does not parse, or has no class Model with a forward.
    """
    try:
        module = Module(reference_source, parse_module(reference_source))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ProblemError(f"the problem's source does not parse: {error}") from error
    model = module.classes.get("Model")
    if model is None:
        raise ProblemError("the problem's source has no class Model")
    forward = _find(module, model, "forward")
    if forward is None:
        raise ProblemError("the problem's class Model has no forward")
    init = _find(module, model, "__init__")
    return Signature(_parameters(init) if init else (), _parameters(forward))


def check_signatures(module: Module, reference: Signature | None) -> list[Finding]:
    """R01 and R03: whether ModelNew accepts the reference's arguments."""
    model = module.model_new
    if model is None:
        return []
    findings = []
    init, forward = _find(module, model, "__init__"), _find(module, model, "forward")
    if forward is None and _all_bases_known(module, model) and not _binds_forward(module, model):
        findings.append(
            finding(
                "R01",
                ERROR,
                model,
                "ModelNew has no forward.",
                "Define forward with the reference's parameters.",
            )
        )
    if reference is None:
        return findings
    if init is not None and _keeps_signature(module, init):
        findings += _compare("R03", "The constructor", init, reference.init)
    elif (
        init is None
        and _all_bases_known(module, model)
        and any(_is_required(p) for p in reference.init)
    ):
        findings.append(
            finding(
                "R03",
                ERROR,
                model,
                "ModelNew has no constructor, but the reference's takes arguments.",
                _ADVICE.format(wanted=_written(reference.init)),
            )
        )
    if forward is not None and _keeps_signature(module, forward):
        findings += _compare("R01", "forward", forward, reference.forward)
    return findings


def _compare(
    rule: str, what: str, node: FunctionNode, reference: tuple[Parameter, ...]
) -> list[Finding]:
    """Compares one function with the parameters that the reference's has."""
    found: list[Finding] = []
    wanted = _ADVICE.format(wanted=_written(reference))

    def report(severity: Severity, message: str) -> None:
        found.append(finding(rule, severity, node, f"{what} {message}", wanted))

    own = _parameters(node)
    positional = [p for p in own if p.kind in ("positional", "positional_only")]
    names = {p.name: p for p in own}
    takes_args, takes_kwargs = (any(p.kind == kind for p in own) for kind in ("args", "kwargs"))
    matched: set[str] = set()
    position = 0
    for parameter in reference:
        if parameter.kind in ("args", "kwargs"):
            has = takes_args if parameter.kind == "args" else takes_kwargs
            if not has:
                report(WARNING, f"lacks {parameter}, which the reference takes.")
            continue
        by_name = names.get(parameter.name)
        if parameter.kind == "keyword_only":
            if by_name is None and not takes_kwargs:
                report(ERROR, f"does not accept {parameter.name}.")
            mine = by_name
        elif position < len(positional):
            mine = positional[position]
            if mine.name != parameter.name and not takes_kwargs:
                report(
                    WARNING,
                    f"has {mine.name} where the reference has {parameter.name}.",
                )
        else:
            mine = by_name if by_name is not None and by_name.kind == "keyword_only" else None
            if not takes_args:
                how = " by position" if mine is not None else ""
                report(ERROR, f"does not accept {parameter.name}{how}.")
        position += parameter.kind != "keyword_only"
        if mine is not None:
            matched.add(mine.name)
            if parameter.has_default and not mine.has_default:
                report(
                    ERROR,
                    f"requires {mine.name}, which may be left out of the reference "
                    f"(default {parameter.default}).",
                )
            elif parameter.has_default and not _same(parameter.default, mine.default):
                report(
                    WARNING,
                    f"gives {mine.name} the default {mine.default}; the reference's is "
                    f"{parameter.default}.",
                )
    for extra in own:
        if extra.name not in matched and _is_required(extra):
            report(ERROR, f"requires {extra.name}, which the reference does not have.")
    return found


def _parameters(node: FunctionNode) -> tuple[Parameter, ...]:
    args = node.args
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    positional = [(a, "positional_only") for a in args.posonlyargs]
    positional += [(a, "positional") for a in args.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    found = [
        _parameter(argument, kind, default)
        for (argument, kind), default in zip(positional, [*padding, *args.defaults], strict=True)
    ]
    found = found if static else found[1:]
    if args.vararg is not None:
        found.append(Parameter(args.vararg.arg, "args"))
    found += [
        _parameter(argument, "keyword_only", default)
        for argument, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    if args.kwarg is not None:
        found.append(Parameter(args.kwarg.arg, "kwargs"))
    return tuple(found)


def _parameter(argument: ast.arg, kind: str, default: ast.expr | None) -> Parameter:
    written = ast.unparse(default)[:200] if default is not None else ""
    return Parameter(argument.arg, kind, default is not None, written)


def _is_required(parameter: Parameter) -> bool:
    return not parameter.has_default and parameter.kind not in ("args", "kwargs")


def _same(one: str, other: str) -> bool:
    try:
        return bool(ast.literal_eval(one) == ast.literal_eval(other))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        # Not literals (a module constant, say): equal as far as can be seen.
        return True


def _written(parameters: tuple[Parameter, ...]) -> str:
    return ", ".join(str(parameter) for parameter in parameters)[:1000] or "none"


def _find(module: Module, cls: ast.ClassDef, name: str) -> FunctionNode | None:
    """A method of a class or of its bases in the same file."""
    return next((m for c in module.chain(cls) if (m := methods(c).get(name)) is not None), None)


def _all_bases_known(module: Module, cls: ast.ClassDef) -> bool:
    """Whether nothing but nn.Module and classes of this file are bases."""
    return all(
        base_name in ("torch.nn.Module", "torch.nn.modules.Module", "object")
        or base_name in module.classes
        for c in module.chain(cls)
        for base_name in map(module.dotted, c.bases)
    ) and not any(c.decorator_list or c.keywords for c in module.chain(cls))


def _binds_forward(module: Module, cls: ast.ClassDef) -> bool:
    """Whether ``forward`` is assigned or defined in some other way."""
    for node in module.nodes:
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and node.attr in ("forward", "__call__")
        ):
            return True
        if isinstance(node, ast.Call) and module.dotted(node.func) in ("setattr", "exec"):
            return True
    return any(
        (isinstance(node, ast.Name) and node.id in ("forward", "__call__"))
        or (isinstance(node, FunctionNode) and node.name in ("forward", "__call__"))
        for c in module.chain(cls)
        for statement in c.body
        for node in ast.walk(statement)
    )


def _keeps_signature(module: Module, node: FunctionNode) -> bool:
    """Whether no decorator can have changed what a function accepts."""
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if module.dotted(target).rsplit(".", 1)[-1] not in _KEEPS_SIGNATURE:
            return False
    return True
