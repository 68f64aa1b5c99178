"""Prints the tables of ``docs/design/conv2d.md`` from a result of ``measure.py``.

    python benchmarks/conv2d/conv2d_tables.py [RESULT]

RESULT is ``benchmarks/results/conv2d_variants.json`` where none is given. Of the last table the
document shows the three largest shapes.

Does not: change the document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from floors import STAGE_STEPS, STAGES, memory_ms, passes  # noqa: E402  # noqa: E402
from shapes import LARGE  # noqa: E402

RESULT = HERE.parent / "results" / "conv2d_variants.json"
PASSES = ("y", "dx", "dw")
TIERS = ("tf32", "fp32")


def times(record: dict[str, Any], name: str, key: str) -> dict[str, float] | None:
    """A variant's milliseconds per pass, and their sum as ``step``."""
    found = record["result"]["variants"].get(name, {"times": {}})["times"].get(key)
    if found is None:
        return None
    each = {part: float(found[part]) for part in PASSES}
    return each | {"step": sum(each.values())}


def headline(record: dict[str, Any]) -> str:
    """Every variant at the headline: milliseconds, TFLOP/s, and the step against cuDNN."""
    lines = [
        "| | precision | y | dx | dw | y + dx + dw | against cuDNN's default |",
        "|---|---|---|---|---|---|---|",
    ]
    names = ["cudnn_default", "cudnn_benchmark"]
    names += [name for name in record["result"]["variants"] if name not in names]
    gflop = LARGE["headline"].flop() / 1e9
    for tier in TIERS:
        key = f"headline|{tier}"
        base = times(record, "cudnn_default", key)
        for name in names:
            found = times(record, name, key)
            if found is None or base is None:
                continue
            cells = [f"{found[part]:.2f} ({gflop / found[part]:.0f})" for part in PASSES]
            lines.append(
                f"| {name.replace('_', ' ')} | {tier} | {' | '.join(cells)} "
                f"| {found['step']:.2f} | {base['step'] / found['step']:.2f}x |"
            )
    return "\n".join(lines)


def shapes(record: dict[str, Any]) -> str:
    """Every measured shape: milliseconds of cuDNN's default, wgmma and mma, and the ratio."""
    lines = [
        "| shape | precision | cuDNN y / dx / dw | `wgmma` y / dx / dw | cuDNN / `wgmma` y, dx, dw "
        "| step | `mma` y / dx / dw |",
        "|---|---|---|---|---|---|---|",
    ]
    for label in LARGE:
        for tier in TIERS:
            key = f"{label}|{tier}"
            cudnn, ours = times(record, "cudnn_default", key), times(record, "wgmma", key)
            other = times(record, "mma", key)
            if cudnn is None or ours is None:
                continue
            ratios = [f"{cudnn[part] / ours[part]:.2f}" for part in PASSES]
            lines.append(
                f"| {label} | {tier} | {_row(cudnn)} | {_row(ours)} | {', '.join(ratios)} "
                f"| {cudnn['step'] / ours['step']:.2f}x | {_row(other) if other else '–'} |"
            )
    return "\n".join(lines)


def roofline(record: dict[str, Any], labels: Iterable[str] = LARGE) -> str:
    """Where ``wgmma`` stands against the floors of its own tiling."""
    lines = [
        "| shape | precision | pass | tile | TFLOP/s of TF32 (share of 494) | of use "
        "| floor, ms | measured, ms | measured / floor | GB/s of 3350 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for label in labels:
        shape = LARGE[label]
        for tier in TIERS:
            found = times(record, "wgmma", f"{label}|{tier}")
            if found is None:
                continue
            products = 3 if tier == "fp32" else 1
            for part, one in passes(shape, tier == "fp32", STAGE_STEPS, STAGES).items():
                if one.kernel == "general":
                    continue
                rate = shape.flop() * products / found[part] / 1e9
                use = shape.flop() * products / 494e12 * 1e3 / one.floor_ms()
                lines.append(
                    f"| {label} | {tier} | {part} | {one.detail} | {rate:.0f} ({rate / 494:.0%}) "
                    f"| {use:.0%} | {one.floor_ms():.3f} | {found[part]:.3f} "
                    f"| {found[part] / one.floor_ms():.1f} "
                    f"| {memory_ms(shape) * 3350 / found[part]:.0f} |"
                )
    return "\n".join(lines)


def all_of(record: dict[str, Any]) -> str:
    """All three."""
    return "\n\n".join([headline(record), shapes(record), roofline(record)])


def _row(found: dict[str, float]) -> str:
    return " / ".join(f"{found[part]:.3f}" for part in PASSES)


if __name__ == "__main__":
    print(all_of(json.loads(Path(sys.argv[1] if sys.argv[1:] else RESULT).read_text())))
