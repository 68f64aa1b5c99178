"""Rule R04 on what the device ran: whose kernels did the work (GPU only).

The launch census names every kernel and the file that it came from, whoever launched it and
by whatever way: another thread, a graph recorded long before, a library found by name. Kernels of
vendor libraries are held against a candidate, and those of PyTorch that compute.

Does not: see a launch that goes around the driver's public interface (``docs/threat_model.md``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from harness.launches import MADE_AT_RUN_TIME, LaunchTable, Row
from harness.oracle.audit import broken
from harness.records import Finding, Kernel, Origin, WorkPolicy

_VENDOR = re.compile(
    r"lib(cublas|cudnn|cufft|cusparse|cusolver|curand|cutensor|cutlass|nccl|npp|nvrtc|nvjitlink"
    r"|nvshmem|tensorrt|nvinfer|magma)"
)
_PYTORCH = re.compile(r"lib(torch|c10|caffe2|aten|shm)|_C\.")
_MOVES = re.compile(
    r"FillFunctor|\dfill_kernel|direct_copy_kernel|bfloat16_copy|float8_copy|CopyFunctor"
    r"|copy_device|CatArrayBatchedCopy|BitwiseXor|bitwise_xor|spin_kernel|arange|CompareEqFunctor"
    r"|\dand_kernel|\dflip_kernel|unrolled_elementwise_kernel.*copy"
    r"|LoadWithCast.*StoreWithCast.*copy"
)
"""PyTorch's kernels that fill, copy, concatenate or compare, and those of our own gate. In a
mangled name a word follows its length: ``masked_fill_kernel`` and ``bitwise_and_kernel`` compute.
"""
_LITTLE = re.compile(
    r"sum_functor|MeanOps|CUDAFunctor(OnSelf|OnOther)?_add|AddFunctor|MulFunctor|DivFunctor"
    r"|\dneg_kernel"
)
"""Those that compute what ``audit.TOLERATED`` allows."""
_WRITTEN_BY_PYTORCH = re.compile(r"^triton_[a-z]{2,4}_")
"""What PyTorch's compiler calls the kernels that it writes: ``triton_poi_fused_relu_0``."""
_SHARE = 0.5
"""Of the GPU's time that those may take."""
_SHOWN = 3
_LONGEST = 300


def kernels(table: LaunchTable, before: Iterable[Row] = ()) -> list[Kernel]:
    """What was launched since ``before``, the longest first."""
    known = {(row.origin, row.kernel): row for row in before}
    found = []
    for row in table.rows():
        old = known.get((row.origin, row.kernel))
        count = row.count - (old.count if old else 0)
        if count > 0:
            spent = row.nanoseconds - (old.nanoseconds if old else 0)
            name = "".join(c if c.isprintable() else "?" for c in row.kernel)
            made = Kernel(
                name=name[:_LONGEST] or "?",
                origin=_origin(table, row),
                launches=count,
                milliseconds=max(0, spent) / 1e6,
            )
            found.append((made, row.kernel))
    ranked = [k for k, _ in sorted(found, key=lambda f: -f[0].milliseconds)]
    if table.overflow:  # nobody needs so many kernels but to hide one among them
        many = "kernels beyond those that are told apart"
        ranked.append(
            Kernel(name=many, origin=Origin.UNKNOWN, launches=table.overflow, milliseconds=0)
        )
    return ranked


def findings(ran: Iterable[Kernel], policy: WorkPolicy, doing: str) -> list[Finding]:
    """What the kernels that ran say about R04.

    Args:
        ran: Kernels of any number of calls.
        policy: Whether PyTorch may compute a little.
        doing: What ran, as the beginning of a sentence.
    """
    by_origin: dict[Origin, list[Kernel]] = {origin: [] for origin in Origin}
    for kernel in ran:
        by_origin[kernel.origin].append(kernel)
    found = []
    if by_origin[Origin.LIBRARY]:
        found.append(_error(doing, "kernels of a vendor's library", by_origin[Origin.LIBRARY]))
    foreign = [k for k in by_origin[Origin.PYTORCH] if not _MOVES.search(k.name)]
    computing = [k for k in foreign if not _LITTLE.search(k.name)]
    little = [k for k in foreign if _LITTLE.search(k.name)]
    everything = sum(k.milliseconds for kernels in by_origin.values() for k in kernels)
    too_much = sum(k.milliseconds for k in little) > _SHARE * everything
    if little and (too_much or policy is WorkPolicy.STRICT):
        computing += little
    if computing:
        found.append(_error(doing, "PyTorch's own kernels", computing))
    if by_origin[Origin.UNKNOWN]:
        found.append(
            _error(
                doing,
                "kernels of which nobody knows where they come from",
                by_origin[Origin.UNKNOWN],
            )
        )
    return found


def unneeded(part: str) -> Finding:
    """For a candidate whose results are right without its own kernels."""
    return broken(
        f"The {part} is right even where the launches of the candidate's own kernels are left out: "
        "something else does the work."
    )


def _origin(table: LaunchTable, row: Row) -> Origin:
    path = row.origin.removeprefix(MADE_AT_RUN_TIME)
    name = PurePath(path).name
    if _WRITTEN_BY_PYTORCH.match(row.kernel):
        return Origin.PYTORCH
    if table.is_own(row):
        return Origin.OWN
    if _VENDOR.match(name):
        return Origin.LIBRARY
    if _PYTORCH.match(name):
        return Origin.PYTORCH
    return Origin.UNKNOWN


def _error(doing: str, what: str, ran: list[Kernel]) -> Finding:
    named = ", ".join(f"{k.name} ({k.launches}x)" for k in ran[:_SHOWN])
    more = f" and {len(ran) - _SHOWN} more" if len(ran) > _SHOWN else ""
    return broken(f"{doing} launched {what}: {named}{more}.")
