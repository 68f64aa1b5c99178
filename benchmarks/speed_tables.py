"""The tables of the clock and of builds, as lines, from result records.

Does not: read files (see ``tables``).
"""

from __future__ import annotations

from statistics import geometric_mean, median
from typing import Any


def against_itself(record: dict[str, Any]) -> list[str]:
    """Each reference clocked against itself: how far from one, and what the intervals hold."""
    result = record["result"]
    lines = [
        "| problem | mode | ms | runs | median of abs(speedup − 1) | 95th percentile "
        "| intervals that hold 1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["against_itself"]:
        lines.append(
            f"| {row['problem']} | {row['mode'].replace('_', ' ')} | {row['milliseconds']:.4g} "
            f"| {len(row['speedups'])} | {100 * row['median_error']:.2f} % "
            f"| {100 * row['error_95']:.2f} % | {row['covered']} |"
        )
    allowed = result["allowances"]
    said = (
        f"What follows is allowed for: {100 * allowed['systematic']:.2f} % and "
        f"{1e3 * allowed['launch_ms']:.2g} µs for launches; the two clocks of a call may differ by "
        f"{1e3 * allowed['done_ms']:.3g} µs."
    )
    return [*lines, "", said]


def planted(record: dict[str, Any]) -> list[str]:
    """A candidate that is one per cent slower: found or not."""
    r = record["result"]
    speedups = sorted(row["speedup"] for row in r["rows"])
    return [
        f"A product of {r['reference_ms']:.2f} ms followed by a kernel that idles for 1 % of that "
        f"(true speedup {r['truth']:.4f}): called slower in {r['found']} of {r['runs']} runs, the "
        f"interval holds the truth in {r['holds_the_truth']}; speedups from {speedups[0]:.4f} to "
        f"{speedups[-1]:.4f}."
    ]


def builds(record: dict[str, Any]) -> list[str]:
    """Stock and fast builds, side by side."""
    rows = record["result"]["candidates"]
    lines = [
        "| candidate | stock s | ours s | ratio | way | verdict and findings "
        "| device code | outputs and gradients |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = "same" if row["same_verdict"] and row["same_findings"] else "**not the same**"
        ratio = row["seconds_stock"] / row["seconds_fast"]
        lines.append(
            f"| {row['candidate']} | {row['seconds_stock']:.1f} | {row['seconds_fast']:.1f} "
            f"| {ratio:.1f}x | {', '.join(row['routes'])} | {same} "
            f"| {row['device_code'].partition(':')[0]} "
            f"| {row['outputs'].partition(':')[0]} |"
        )
    fast = [
        row["seconds_stock"] / row["seconds_fast"] for row in rows if set(row["routes"]) == {"fast"}
    ]
    said = [f"{len(rows)} candidates, {len(fast)} of them built the fast way"]
    if fast:
        said.append(
            f"stock takes {median(fast):.1f} times as long there (median; geometric mean "
            f"{geometric_mean(fast):.1f})"
        )
    return [*lines, "", "; ".join(said) + "."]
