"""Blocks that grow with a tensor's size are warnings; clamped or unknown ones are not."""

# ruff: noqa: E501  (candidates are written as one-line strings)

from __future__ import annotations

import pytest

from harness.records import Severity

from .candidates import changed, found, line_of, place


def block(declaration: str) -> str:
    return changed(
        (
            "    const int threads = 256;\n    const int64_t blocks = (x.numel() + threads - 1) / threads;\n    square_forward",
            f"    {declaration}\n    const int blocks = 1;\n    square_forward",
        ),
    )


@pytest.mark.parametrize(
    "declaration",
    [
        "const int threads = x.numel();",
        "int64_t threads = x.size(0) * x.size(1);",
        "const int w = x.size(1);\n    dim3 threads(w, 4);",
        "const int w = x.size(1), h = x.size(2);\n    dim3 threads(w, h);",
        "dim3 threads = dim3(x.size(3), 1, 1);",
        "dim3 threads{x.size(3)};",
        "auto s = x.sizes();\n    dim3 threads(x.sizes()[0]);",
        "const int threads = (x.size(1) + 31) / 32 * 32;",
        "const int threads = static_cast<int>(x.size(1));",
        "dim3 threads(64, 32);",
        "const int threads = 2048;",
        "#define TILE 64\n    dim3 threads(TILE, TILE);",
    ],
)
def test_a_block_that_can_be_too_large_is_a_warning_where_it_is_set(declaration: str) -> None:
    code = block(declaration)
    (finding,) = found(code, "screen.block_size")
    assert finding.severity is Severity.WARNING
    setting = next(row for row in code.split("\n") if "threads" in row and "<<<" not in row)
    assert place(finding) == line_of(code, setting)


@pytest.mark.parametrize(
    "declaration",
    [
        "const int threads = 1024;",
        "dim3 threads(32, 32);",
        "dim3 threads(16, 16, 4);",
        "const int threads = std::min<int>(x.numel(), 1024);",
        "const int threads = std::min((int)x.size(1), 256);",
        "const int threads = x.size(1) < 256 ? x.size(1) : 256;",
        "int threads = x.size(1);\n    if (threads > 1024) threads = 1024;",
        "int threads = x.size(1);\n    TORCH_CHECK(threads <= 1024);",
        "int threads = x.size(1);\n    while (threads > 512) threads /= 2;",
        "int threads = pick_threads(x.size(1));",
        "int threads = 1;\n    while (threads < x.size(1) && threads < 256) threads *= 2;",
        "const int threads = x.size(1) % 512;",
        "const int threads = unknown;",
        "dim3 threads;\n    threads.x = x.size(0);",
    ],
)
def test_a_bounded_or_unknown_block_is_not_flagged(declaration: str) -> None:
    assert found(block(declaration), "screen.block_size") == []
