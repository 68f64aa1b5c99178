"""The tables of conv2d: the solution's clock, errors and kernels, and the variants before it.

Takes records of ``convolutions.py`` and ``wgmma_forms.py``, and the two files of variants that were
clocked once (``conv2d_variants``, ``conv2d_halves``); returns lines of Markdown for ``tables.py``.
"""

from __future__ import annotations

from typing import Any

PASSES = ("y", "dx", "dw")
VARIANTS = ("shared tiles", "low tiles", "late release", "own tiles")


def clock(record: dict[str, Any]) -> list[str]:
    """The solution beside cuDNN by the project's clock."""
    lines = [
        "| shape | precision | cuDNN | forward, ms | speedup | backward, ms | speedup "
        "| training step, ms | speedup (95 % interval) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["result"]["rows"]:
        cells = [
            row["shape"],
            row["precision"],
            "benchmark" if row["cudnn_benchmark"] else "default",
        ]
        for one in row["speedups"]:
            cells.append(f"{one['candidate']['milliseconds']:.3f}")
            cells.append(f"{one['speedup']:.2f}x")
        last = row["speedups"][-1]
        cells[-1] += f" ({last['low']:.2f} to {last['high']:.2f})"
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def kernels(record: dict[str, Any]) -> list[str]:
    """Errors, and where a training step's time on the GPU goes."""
    lines = [
        "| shape | precision | error of y, dx, dw | cuDNN's | y + dx, ms (TFLOP/s) "
        "| dw, ms (TFLOP/s) | packing, ms | all, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["result"]["rows"]:
        times = {name: milliseconds for name, (_, milliseconds) in row["kernels"].items()}
        products = row["gflop"] * (3 if row["precision"] == "fp32" else 1)
        both = sum(ms for name, ms in times.items() if "correlation_kernel" in name)
        weights = sum(ms for name, ms in times.items() if "weight_gradient_kernel" in name)
        packing = sum(ms for name, ms in times.items() if "pack_" in name or "range_" in name)
        lines.append(
            f"| {row['shape']} | {row['precision']} | {listed(row['errors'])} "
            f"| {listed(row['cudnn_errors'])} | {rate(both, 2 * products)} "
            f"| {rate(weights, products)} | {packing:.2f} | {sum(times.values()):.2f} |"
        )
    return lines


def listed(errors: dict[str, float]) -> str:
    """Three relative errors."""
    return ", ".join(f"{errors[part]:.1e}" for part in PASSES)


def rate(milliseconds: float, gflop: float) -> str:
    """A time and what it means; nothing where the general kernel did the work."""
    if not milliseconds:
        return "general kernel"
    return f"{milliseconds:.2f} ({gflop / milliseconds:.0f})"


def variants(tf32: dict[str, Any], halves: dict[str, Any]) -> list[str]:
    """What was tried at the headline, each clocked once."""
    lines = [
        "| variant | operands | y / dx / dw in `tf32`, ms | sum | in `fp32`, ms | sum |",
        "|---|---|---|---|---|---|",
    ]
    found = tf32["result"]["variants"]
    for name in ("cudnn_default", "cudnn_benchmark", "wgmma", "mma", "deep", "flat", "quads4"):
        times = [found[name]["times"][f"headline|{tier}"] for tier in ("tf32", "fp32")]
        kind = "–" if name.startswith("cudnn") else "TF32"
        lines.append(variant(name.replace("_", " "), kind, *times))
    for name in VARIANTS:
        rows = halves["result"]["variants"][name]
        times = [row["ours"] for row in rows if row["shape"] == "headline"]
        lines.append(variant(name, "halves", *times))
    return lines


def variant(name: str, kind: str, *times: dict[str, float]) -> str:
    """One line of the variants."""
    cells = [name, kind]
    for each in times:
        parts = [float(each[part]) for part in PASSES]
        cells += [" / ".join(f"{part:.2f}" for part in parts), f"{sum(parts):.2f}"]
    return f"| {' | '.join(cells)} |"


def shapes(halves: dict[str, Any]) -> list[str]:
    """All shapes beside cuDNN's default, clocked once by events, the host's launches included."""
    lines = [
        "| shape | precision | y, dx + dw, ms | cuDNN y / dx / dw, ms | cuDNN / ours |",
        "|---|---|---|---|---|",
    ]
    for row in halves["result"]["variants"]["own tiles"]:
        ours, cudnn = row["ours"], row["cudnn"]
        ratio = sum(cudnn.values()) / (ours["y"] + ours["dx and dw"])
        theirs = " / ".join(f"{cudnn[part]:.2f}" for part in PASSES)
        lines.append(
            f"| {row['shape']} | {row['precision']} | {ours['y']:.2f}, {ours['dx and dw']:.2f} "
            f"| {theirs} | {ratio:.2f} |"
        )
    return lines


def forms(record: dict[str, Any]) -> list[str]:
    """What the tensor cores reach with operands as the kernels lay them."""
    lines = [
        "| operands | columns | left operand from | clocks | at peak |",
        "|---|---|---|---|---|",
    ]
    for row in record["result"]["rows"]:
        lines.append(
            f"| {row['form']} | {row['columns']} | {row['left_from']} | {row['clocks']:.1f} "
            f"| {row['clocks_at_peak']:.0f} |"
        )
    return lines
