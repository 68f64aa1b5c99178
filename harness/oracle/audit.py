"""Rule R04 on PyTorch's operators that ran: the candidate's own kernels do the work.

Between inputs and outputs a candidate may allocate, view, reshape and copy;
everything that computes must be its own. The list of operators comes from the
worker, so an honest wrapper is found and a hostile one can hide: on a GPU ``work`` looks at
what the device ran, and ``docs/threat_model.md`` says what both leave open.

Does not: run anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.oracle.reference import Question
from harness.records import Finding, Severity, Stage, WorkPolicy
from harness.worker.census import TO_THE_HOST
from harness.worker.trees import flatten

ALLOWED = frozenset(
    (
        "alias", "arange", "as_strided", "clone", "contiguous", "copy_", "detach", "detach_",
        "diagonal", "empty", "empty_like", "empty_permuted", "empty_strided", "expand",
        "fill", "fill_", "flatten", "full", "full_like", "is_pinned", "item",
        "_local_scalar_dense", "lift_fresh", "narrow", "new_empty", "new_empty_strided",
        "new_full", "new_ones", "new_zeros", "ones", "ones_like", "permute", "pin_memory",
        "_pin_memory", "record_stream", "_reshape_alias", "reshape", "resize_",
        "scalar_tensor", "select", "set_", "slice", "split", "split_with_sizes", "squeeze",
        "stack", "t", "_to_copy", "to", "transpose", "unbind", "unfold", "_unsafe_view",
        "unsqueeze", "view", "view_as_real", "view_as_complex", "zero_", "zeros",
        "constant_pad_nd", "flip", "pad", "repeat", "tile",
        "zeros_like", "cat", "chunk", "is_same_size", "equal", "resolve_conj", "resolve_neg",
        # what only the profiler sees: names that end in one of the above
        "adjoint", "broadcast_to", "can_cast", "concat", "concatenate", "data", "dsplit",
        "expand_as", "hsplit", "is_floating_point", "is_nonzero", "mH", "mT", "matrix_H",
        "moveaxis", "movedim", "narrow_copy", "numpy_T", "ravel", "requires_grad_",
        "reshape_as", "resize_as_", "result_type", "retain_grad", "size", "squeeze_", "stride",
        "swapaxes", "swapdims", "sym_numel", "sym_size", "sym_storage_offset", "sym_stride",
        "tensor_split", "transpose_", "t_", "type_as", "unflatten", "unsqueeze_", "view_as",
        "vsplit",
    )
)  # fmt: skip
"""Operators that allocate, view, reshape, copy or compare for checks."""
TOLERATED = frozenset(
    (
        "sum", "sum_to_size", "mean", "add", "add_", "sub", "sub_", "rsub", "neg", "mul", "mul_",
        "div", "div_",
    )
)  # fmt: skip
"""Operators that compute, but little: reported, not held against the candidate (a bias gradient
by ``sum``, a loss over the number of its elements, autograd's own accumulation)."""


Operators = dict[str, dict[str, int]]
"""By ``forward`` and ``backward``: operators, and the elements of all tensors that each made."""
_FEW = 1024
"""Elements that may be read by the host: sizes, indices, flags."""
_ADVICE = "Everything between inputs and outputs that computes is to be a kernel of your own."


def findings(
    operators: Operators,
    most: int,
    policy: WorkPolicy = WorkPolicy.LENIENT,
    reference: frozenset[str] = frozenset(),
) -> list[Finding]:
    """What the operators of one forward and backward say about R04.

    Args:
        operators: What was seen.
        most: Elements of the largest tensor that goes in or comes out. What makes more, all its
            tensors together, computes more than it is tolerated for: a product can be made row
            by row, and a function of additions and products.
        policy: Whether anything that computes is tolerated.
        reference: Operators of the reference's forward. Where it computes with nothing but what
            is tolerated, that is the work.
    """
    found = []
    computed = {_base(name) for name in reference if name.startswith("aten::")} - ALLOWED
    work = computed if computed <= TOLERATED else set()
    for part, sizes in operators.items():
        made: dict[str, int] = {}
        for name, size in sizes.items():
            if name.startswith("aten::"):
                made[_base(name)] = size + made.get(_base(name), 0)
        computing = sorted(made.keys() - ALLOWED)
        little = [n for n in computing if n in TOLERATED and n.rstrip("_") not in work]
        if policy is WorkPolicy.STRICT or sum(made[n] for n in little) > most:
            little = []
        heavy = [n for n in computing if n not in little]
        if heavy:
            found.append(_computes(part, heavy, Severity.ERROR))
        elif computing:
            found.append(_computes(part, computing, Severity.NOTE))
        if (read := sizes.get(TO_THE_HOST, 0)) > _FEW:
            found.append(broken(f"The {part} copies {read} elements to the host."))
    return found


def largest(question: Question) -> int:
    """Elements of the largest tensor of a question."""
    tensors = [t for _, t in flatten(question.args)] + list(question.weights.values())
    tensors += [t.like for t in (*question.outputs, *question.gradients.values())]
    return max((t.numel() for t in tensors), default=0)


def no_launch() -> Finding:
    """For a candidate of which nothing ran on the device."""
    return broken(
        "The candidate launched no kernel of its own, forward or backward.",
        advice="The work is to be done by CUDA kernels that the candidate launches.",
    )


def broken(message: str, *, advice: str = _ADVICE, severity: Severity = Severity.ERROR) -> Finding:
    """What tells that somebody else does the work."""
    return Finding(rule="R04", severity=severity, stage=Stage.AUDIT, message=message, advice=advice)


def _base(name: str) -> str:
    """``sum`` for ``aten::sum.dim_IntList``."""
    return name.removeprefix("aten::").split(".")[0]


def _computes(part: str, names: Iterable[str], severity: Severity) -> Finding:
    listed = ", ".join(f"aten::{n}" for n in names)
    message = f"The {part} computes with PyTorch's own operators: {listed}."
    return broken(message, severity=severity)
