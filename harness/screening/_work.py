"""Checks who does the work on the Python side: own kernels, or PyTorch's operators.

Warnings only: a scan cannot know what a call costs or whether a branch is taken, and the
audit stage can. Does not look into native text (``_kernels`` does).
"""

from __future__ import annotations

import ast

from harness.records import Finding
from harness.screening._module import Module, Unit, methods
from harness.screening._report import ERROR, WARNING, finding


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPERATORS = _words(
    """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d addbmm addmm
    addmv avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bilinear bmm celu conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity cross_entropy cumprod
    cumsum dropout einsum elu embedding fold gelu glu group_norm gru hardsigmoid hardswish hardtanh
    huber_loss instance_norm kl_div l1_loss layer_norm leaky_relu linear log_softmax logsumexp
    lstm matmul max_pool1d max_pool2d max_pool3d mish mm mse_loss mv nll_loss normalize relu relu6
    rms_norm scaled_dot_product_attention selu sigmoid silu smooth_l1_loss softmax softmin softplus
    softsign tanh tensordot triplet_margin_loss unfold conv2d_input conv2d_weight conv1d_input
    conv1d_weight conv3d_input conv3d_weight convolution convolution_backward var_mean"""
)
_METHODS = _words(
    """addmm baddbmm bmm matmul mm mv softmax log_softmax relu sigmoid tanh cumsum cumprod
    logsumexp einsum"""
)
_NAMESPACES = (
    "torch",
    "torch.nn.functional",
    "torch.nn.grad",
    "torch.ops.aten",
    "torch.special",
    "torch.linalg",
    "torch._C._nn",
    "torch.nn.modules.functional",
)
_NOT_LAYERS = _words(
    """Module ModuleList ModuleDict ParameterList ParameterDict Parameter Buffer Identity init
    UninitializedParameter utils functional"""
)
_ADVICE = "Let a kernel of your own do that work."


def check_work(module: Module) -> list[Finding]:
    """R04: compute operators of PyTorch in what runs when ModelNew is called."""
    found: list[Finding] = []
    layers = _layers(module)
    for unit in module.compute_units:
        handlers = _nodes_in_handlers(unit.node)
        for node in ast.walk(unit.node):
            name = _operator(module, node) or _layer_call(node, unit, layers)
            if not name:
                continue
            if node in handlers:
                message = f"{unit.label} falls back to PyTorch's {name} when its try fails."
            else:
                message = f"{unit.label} calls PyTorch's {name}."
            found.append(finding("R04", WARNING, node, message, _ADVICE))
    return found


def check_reference(module: Module) -> list[Finding]:
    """R01: ModelNew stands on its own, not on the reference's class."""
    model = module.model_new
    if model is None:
        return []
    found = []
    imported = module.aliases.get("Model", "")
    for cls in module.chain(model):
        uses = [base for base in cls.bases if module.dotted(base).rsplit(".", 1)[-1] == "Model"]
        uses += [
            node.func
            for node in ast.walk(cls)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "Model"
        ]
        for use in uses[:1]:
            own = "Model" in module.classes or "Model" in module.assigned
            if cls.name == "Model":
                continue
            found.append(_reference_finding(use, own and not imported))
    return found


def _reference_finding(use: ast.expr, own: bool) -> Finding:
    advice = "Derive ModelNew from nn.Module, and replace the operators in it."
    if own:
        message = "ModelNew builds on a class Model of the same file, the reference's name."
        return finding("R01", WARNING, use, message, advice)
    message = "ModelNew builds on the reference's Model, which a candidate does not have."
    return finding("R01", ERROR, use, message, advice)


def _operator(module: Module, node: ast.AST) -> str:
    """The PyTorch operator that a node computes, if it is one of the listed."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return "matrix product (@)"
    if not isinstance(node, ast.Call):
        return ""
    space, _, name = module.dotted(node.func).rpartition(".")
    if space in _NAMESPACES and name in _OPERATORS:
        return f"{space}.{name}"
    if space.startswith("torch.ops.aten"):
        return f"{space}.{name}"
    if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
        if space in _NAMESPACES or not _is_tensor_like(module, node.func.value):
            return ""
        return node.func.attr
    return ""


def _is_tensor_like(module: Module, value: ast.expr) -> bool:
    """Whether a value may be a tensor: not an import, nor something the module level binds.

    ``extension.softmax(x)`` calls the candidate's own operator.
    """
    while isinstance(value, ast.Attribute):
        if isinstance(value.value, ast.Name) and value.value.id == "self":
            return value.attr in ("weight", "bias")
        value = value.value
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Attribute)
    if not isinstance(value, ast.Name):
        return False
    return value.id not in module.module_names and value.id not in module.aliases


def _layers(module: Module) -> dict[tuple[str, str], str]:
    """Attributes that hold a layer of torch.nn: (class, attribute) to the layer's name."""
    found: dict[tuple[str, str], str] = {}
    for cls in module.classes.values():
        for node in (n for m in methods(cls).values() for n in ast.walk(m)):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
                continue
            space, _, layer = module.dotted(node.value.func).rpartition(".")
            if space not in ("torch.nn", "torch.nn.modules") or layer in _NOT_LAYERS:
                continue
            if layer == "Sequential" and not _holds_layers(module, node.value):
                continue
            for target in node.targets:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    found[cls.name, target.attr] = f"nn.{layer}"
    return found


def _holds_layers(module: Module, container: ast.Call) -> bool:
    inner = [n for a in container.args for n in ast.walk(a) if isinstance(n, ast.Call)]
    return any(module.dotted(call.func).startswith("torch.nn.") for call in inner)


def _layer_call(node: ast.AST, unit: Unit, layers: dict[tuple[str, str], str]) -> str:
    """The layer whose own forward is called; reading its weight alone is fine."""
    if not isinstance(node, ast.Call) or unit.owner is None:
        return ""
    target = node.func
    if isinstance(target, ast.Attribute) and target.attr == "forward":
        target = target.value
    if not isinstance(target, ast.Attribute) or not isinstance(target.value, ast.Name):
        return ""
    return layers.get((unit.owner.name, target.attr), "") if target.value.id == "self" else ""


def _nodes_in_handlers(function: ast.AST) -> set[ast.AST]:
    return {
        inner
        for node in ast.walk(function)
        if isinstance(node, ast.ExceptHandler)
        for inner in ast.walk(node)
    }
