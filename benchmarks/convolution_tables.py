"""The tables of conv2d: the solution's clock, errors and kernels, and the variants before it.

Takes records of ``convolutions.py`` and ``wgmma_forms.py``, and the two files of variants that were
clocked once (``conv2d_variants``, ``conv2d_halves``); returns lines of Markdown for ``tables.py``.
"""

from __future__ import annotations

from typing import Any

PASSES = ("y", "dx", "dw")
VARIANTS = ("shared tiles", "low tiles", "late release", "own tiles")


def clock(record: dict[str, Any], former: dict[str, Any]) -> list[str]:
    """The solution beside cuDNN by the project's clock; a former text's where only that was."""
    every = record["result"]["rows"]
    rows = [row for row in every if not row.get("gradient")]
    alone = {(*case(row), row["gradient"]): row for row in every if row.get("gradient")}
    gradients = list(dict.fromkeys(gradient for *_, gradient in alone))
    titles = "".join(f" {gradient}, ms and speedup |" for gradient in gradients)
    lines = [
        "| shape | precision | cuDNN | forward, ms | speedup | backward, ms | speedup "
        f"| training step, ms | speedup (95 % interval) |{titles}",
        f"|---|---|---|---|---|---|---|---|---|{'---|' * len(gradients)}",
    ]
    clocked = [case(row) for row in rows]
    for row in [*rows, *(r for r in former["result"]["rows"] if case(r) not in clocked)]:
        shape, precision, benchmark = case(row)
        cells = [
            shape if case(row) in clocked else f"{shape} (former text)",
            precision,
            "benchmark" if benchmark else "default",
        ]
        for one in row["speedups"]:
            cells.append(f"{one['candidate']['milliseconds']:.3f}")
            cells.append(f"{one['speedup']:.2f}x")
        last = row["speedups"][-1]
        cells[-1] += f" ({last['low']:.2f} to {last['high']:.2f})"
        for gradient in gradients:
            cells.append(backward(alone.get((*case(row), gradient))))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def backward(row: dict[str, Any] | None) -> str:
    """Milliseconds and speedup of a gradient that was clocked alone."""
    if row is None:
        return "–"
    (found,) = (one for one in row["speedups"] if one["mode"] == "backward")
    return f"{found['candidate']['milliseconds']:.3f}, {found['speedup']:.2f}x"


def case(row: dict[str, Any]) -> tuple[str, str, bool]:
    """What was clocked."""
    return row["shape"], row["precision"], row["cudnn_benchmark"]


def kernels(record: dict[str, Any]) -> list[str]:
    """Errors, and where a training step's time on the GPU goes."""
    lines = [
        "| shape | precision | error of y, dx, dw | cuDNN's | y + dx, ms (TFLOP/s) "
        "| dw, ms (TFLOP/s) | packing, ms | all, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["result"]["rows"]:
        packing = spent(row, "pack_", "range_")
        lines.append(
            f"| {row['shape']} | {row['precision']} | {listed(row['errors'])} "
            f"| {listed(row['cudnn_errors'])} | {products(row)} | {packing:.2f} "
            f"| {spent(row):.2f} |"
        )
    return lines


def spent(row: dict[str, Any], *names: str) -> float:
    """Milliseconds of the kernels in whose names one of these stands; of all without any."""
    return sum(
        milliseconds
        for kernel, (_, milliseconds) in row["kernels"].items()
        if not names or any(name in kernel for name in names)
    )


def products(row: dict[str, Any]) -> str:
    """Two cells: y and dx, and dw, as far as the tensor cores did them."""
    gflop = row["gflop"] * (3 if row["precision"] == "fp32" else 1)
    both, weights = spent(row, "correlation_kernel<Tile"), spent(row, "weight_gradient_kernel")
    return f"{rate(both, 2 * gflop)} | {rate(weights, gflop)}"


def listed(errors: dict[str, float]) -> str:
    """Three relative errors."""
    return ", ".join(f"{errors[part]:.1e}" for part in PASSES)


def rate(milliseconds: float, gflop: float) -> str:
    """A time and what it means; nothing where the tensor cores did not do the work."""
    if not milliseconds:
        return "–"
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


def mma(ampere: dict[str, Any], hopper: dict[str, Any]) -> list[str]:
    """The kernels that are built for other GPUs, on the same one."""
    lines = [
        "| shape | precision | y + dx, ms (TFLOP/s) | dw, ms (TFLOP/s) | all, ms "
        "| by wgmma, all, ms |",
        "|---|---|---|---|---|---|",
    ]
    for row, other in zip(ampere["result"]["rows"], hopper["result"]["rows"]):
        if spent(row, "mma_"):
            lines.append(
                f"| {row['shape']} | {row['precision']} | {products(row)} | {spent(row):.2f} "
                f"| {spent(other):.2f} |"
            )
    return lines


def counters(record: dict[str, Any]) -> list[str]:
    """Which parts of the GPU each kernel keeps busy, in per cent of the peak."""
    lines = [
        "| shape | precision | kernel | ms | tensor cores | memory | L2 | L1, shared memory "
        "| instruction issue |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    parts = ("tensor_cores", "memory", "l2", "l1_and_shared_memory", "instruction_issue")
    for row in record["result"]["rows"]:
        if row["microseconds"] >= 50:
            busy = " | ".join(f"{row[part]:.0f} %" for part in parts)
            lines.append(
                f"| {row['shape']} | {row['precision']} | {row['what']} "
                f"| {row['microseconds'] / 1e3:.2f} | {busy} |"
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
