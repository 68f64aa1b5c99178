"""How a conv2d variant tiles a shape on an H100, and what no such tiling can beat.

    python benchmarks/conv2d/floors.py [--stage-steps N] [--stages N]

For each large shape, pass and precision: which kernel takes it, the tile, rounds of tiles over the
multiprocessors, the share of the tensor cores' work that is of use, and two floors in
milliseconds: all products that the tiling multiplies at the tensor cores' peak, and every tensor
moved once at the memory's bandwidth. The arithmetic follows ``plan`` in ``parts/correlation.cu``
and ``weight_gradient_with`` in ``parts/weight_gradient.cu``; nothing is run.

Does not: know latency, clocks under load, or anything but Hopper's wgmma.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import ceil

from shapes import LARGE, Shape

PROCESSORS = 132
PEAK_TF32 = 494e12
"""Dense, by the data sheet: 1024 multiplications a clock and multiprocessor at 1.83 GHz."""
CLOCK = PEAK_TF32 / (PROCESSORS * 2048)
BANDWIDTH = 3.35e12
SHARED_BYTES = 227 * 1024
QUADS, UNIT, STEP_UNITS = 8, 4, 2
STAGE_STEPS, STAGES = 4, 4
THREADS = 256
USEFUL = 0.25
PASSES = ("y", "dx", "dw")


@dataclass
class Tiling:
    """What one pass does; everything stays 0 where the general kernel takes it."""

    kernel: str = "general"
    detail: str = ""
    rounds: int = 0
    clocks: int = 0
    """Of the tensor cores in the busiest multiprocessor."""
    shared: int = 0
    stages: int = 0
    """Of products between two barriers, in the busiest multiprocessor (dweight: rows)."""
    slots: int = 0
    """Units of patch that each of its threads fetches."""

    def floor_ms(self) -> float:
        """Its products at the tensor cores' peak."""
        return self.clocks / CLOCK * 1e3


def correlation(
    images: int, maps: int, depth: int, rows: int, columns: int, step: tuple[int, int],
    taps: tuple[list[int], list[int]], split: bool, stage_steps: int, stages: int,
) -> Tiling:  # fmt: skip
    """One launch of ``correlation_kernel``; ``taps`` are the offsets along y and x."""
    blocks = 2 if ceil(maps / 64) % 2 == 0 else 1
    parts, groups = (2, 16) if split else (1, 32)
    tile_maps, height, width = 64 * blocks, groups, 16 // blocks
    count = len(taps[0]) * len(taps[1])
    map_tiles, tiles_y, tiles_x = ceil(maps / tile_maps), ceil(rows / height), ceil(columns / width)
    tiles = images * map_tiles * tiles_y * tiles_x
    spans = [max(line) - min(line) + 1 if line else 0 for line in taps]
    patch_width = (width - 1) * step[1] + spans[1]
    plane = ((height - 1) * step[0] + spans[0]) * ceil(patch_width / step[1]) * step[1]
    if not count or plane >= 1 << 14:
        return Tiling()
    quads = QUADS
    while quads >= STEP_UNITS:
        chunks = ceil(depth / (quads * UNIT))
        per_chunk = ceil(count * quads // STEP_UNITS / stage_steps)
        buffers = 3 if per_chunk == 1 else 2
        weights = stages * stage_steps * STEP_UNITS * tile_maps
        floats = parts * UNIT * (weights + buffers * quads * plane)
        shared = 4 * (floats + per_chunk * stage_steps)
        wasteful = quads > STEP_UNITS and depth <= quads * UNIT // 2
        if shared <= SHARED_BYTES and not wasteful:
            useful = maps / (map_tiles * tile_maps) * depth / (chunks * quads * UNIT)
            useful *= rows / (tiles_y * height) * columns / (tiles_x * width)
            if useful < USEFUL:
                return Tiling()
            rounds = ceil(tiles / PROCESSORS)
            opened = rounds * chunks * per_chunk
            clocks = opened * stage_steps * 2 * (3 if split else 1) * groups * 8 // 2
            detail = f"{tile_maps} x {height}x{width}, {quads * UNIT} deep"
            units = ((height - 1) * step[0] + spans[0]) * patch_width * quads
            slots = rounds * chunks * ceil(units / THREADS)
            return Tiling("correlation", detail, rounds, clocks, shared, opened, slots)
        quads //= 2
    return Tiling()


def passes(shape: Shape, split: bool, stage_steps: int, stages: int) -> dict[str, Tiling]:
    """The three passes of a shape."""
    groups, (height, width) = shape.groups, shape.out()
    images = shape.batch * groups
    channels, filters = shape.channels // groups, shape.filters // groups
    lines = zip(shape.kernel, shape.stride, shape.padding, shape.dilation)
    forward: list[list[int]] = []
    phases: list[list[tuple[int, list[int]]]] = []
    for (k, s, p, d), size in zip(lines, (shape.height, shape.width)):
        forward.append([r * d - p for r in range(k)])
        found = [
            [(f + p - r * d) // s for r in range(k) if (f + p - r * d) % s == 0] for f in range(s)
        ]
        phases.append([(ceil((size - f) / s), taps) for f, taps in enumerate(found)])
    how = (split, stage_steps, stages)
    y = correlation(
        images, filters, channels, height, width, shape.stride, (forward[0], forward[1]), *how
    )
    each = [
        correlation(images, channels, filters, rows, columns, (1, 1), (ys, xs), *how)
        for rows, ys in phases[0]
        for columns, xs in phases[1]
    ]
    dx = each[0]
    if any(one.kernel == "general" for one in each):
        dx = Tiling()
    elif len(each) > 1:
        dx = Tiling(
            "correlation", f"{len(each)} launches", sum(one.rounds for one in each),
            sum(one.clocks for one in each), max(one.shared for one in each),
            sum(one.stages for one in each), sum(one.slots for one in each),
        )  # fmt: skip
    return {"y": y, "dx": dx, "dw": weight_gradient(shape, split)}


def weight_gradient(shape: Shape, split: bool) -> Tiling:
    """The launch of ``weight_gradient_kernel``."""
    channels, filters = shape.channels // shape.groups, shape.filters // shape.groups
    useful = filters / (ceil(filters / 64) * 64) * channels / (ceil(channels / 32) * 32)
    if useful < USEFUL:
        return Tiling()
    strip = 16 if split else 32
    if shape.kernel[0] * shape.kernel[1] == 1:
        return _weight_gradient(shape, split, "Pointwise", 16, 1, 16)
    tried = [("Wide", 7, 5, strip)] if shape.kernel[1] == 7 else []
    for name, run, runs, pixels in [*tried, ("Other", 4, 9, strip), ("Other", 4, 9, strip // 2)]:
        tiling = _weight_gradient(shape, split, name, run, runs, pixels)
        if tiling.kernel != "general":
            return tiling
    return Tiling()


def _weight_gradient(
    shape: Shape, split: bool, name: str, run: int, runs: int, strip: int
) -> Tiling:
    channels, filters = shape.channels // shape.groups, shape.filters // shape.groups
    kernel_y, kernel_x = shape.kernel
    height, width = shape.out()
    parts, taps = 2 if split else 1, kernel_y * kernel_x
    blocks = 2 if ceil(filters / 64) % 2 == 0 else 1
    column_blocks, tile_maps = 2 // blocks, 64 * blocks
    wide = name == "Wide"
    channel_blocks = column_blocks if wide else run
    per_tile = runs * kernel_x if wide else runs * column_blocks
    tap_tiles = ceil(kernel_y / runs) if wide else ceil(taps / per_tile)
    per_image = 1 if shape.batch % 4 == 0 else 2 if shape.batch % 2 == 0 else 4
    band_rows = ceil(height / per_image)
    units = ceil(shape.batch * per_image / 4) * ceil(width / strip) * band_rows
    pitch = (strip - 1) * shape.stride[1] + (kernel_x - 1) * shape.dilation[1] + 1
    row_pitch = pitch * (channel_blocks * 8 + 1)
    starts = [tile * per_tile for tile in range(tap_tiles)]
    spans = [(min(s + per_tile, taps) - 1) // kernel_x - s // kernel_x for s in starts]
    ring = max(spans) * shape.dilation[0] + 1 + shape.stride[0]
    shared = 4 * parts * UNIT * (2 * strip * (tile_maps + 1) + ring * row_pitch)
    if shared > SHARED_BYTES - 2048:
        return Tiling()
    columns = shape.groups * ceil(filters / tile_maps) * ceil(channels / (channel_blocks * 8))
    columns *= tap_tiles
    slices, best = 1, 0.0
    for waves in range(1, 5):
        tried = min(max(1, PROCESSORS * waves // columns), max(1, units // 8))
        busy = tried * columns / (ceil(tried * columns / PROCESSORS) * PROCESSORS)
        if busy > best + 0.01:
            best, slices = busy, tried
    rounds = ceil(slices * columns / PROCESSORS)
    rows = ceil(rounds * units / slices)
    clocks = rows * strip // 2 * runs * run * 8 // 2 * 2 * (3 if split else 1)
    detail = f"{name}, {tile_maps} x {8 * run * runs * column_blocks}, {slices} slices"
    return Tiling("dweight", detail, rounds, clocks, shared, rows)


def memory_ms(shape: Shape) -> float:
    """Input, weights and output of any pass, each moved once."""
    height, width = shape.out()
    floats = shape.batch * shape.channels * shape.height * shape.width
    floats += shape.batch * shape.filters * height * width
    floats += shape.filters * shape.channels // shape.groups * shape.kernel[0] * shape.kernel[1]
    return 4 * floats / BANDWIDTH * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage-steps", type=int, default=STAGE_STEPS)
    parser.add_argument("--stages", type=int, default=STAGES)
    asked = parser.parse_args()
    print(
        f"{'':31}{'tiling':40}{'rounds':>7}{'stages':>7}{'shared':>8}{'use':>6}{'floor':>8}{'memory':>8}"
    )
    for label, shape in LARGE.items():
        for split in (False, True):
            found = passes(shape, split, asked.stage_steps, asked.stages)
            for name, one in found.items():
                key = f"{label} {'fp32' if split else 'tf32'} {name}"
                if one.kernel == "general":
                    print(f"{key:31}general kernel")
                    continue
                work = shape.flop() * (3 if split else 1) / PEAK_TF32 * 1e3
                print(
                    f"{key:31}{one.detail:40}{one.rounds:7}{one.stages:7}{one.shared:8}"
                    f"{work / one.floor_ms():6.0%}{one.floor_ms():8.3f}{memory_ms(shape):8.3f}"
                )


if __name__ == "__main__":
    main()
