"""What the correlations' time is made of, by least squares over all measured shapes.

    python benchmarks/conv2d/model.py [RESULT]

RESULT is ``benchmarks/results/conv2d_variants.json`` where none is given. For each precision the
times of forward and dinput with stride 1 (``wgmma``, and ``deep`` at the headline) are explained
by four counts of the busiest multiprocessor: stages (a barrier and what goes with it), steps (of
products), slots (a round trip to memory for a piece of the patch) and rounds (writing a tile).
Relative errors are squared.

Does not: prove causes; the counts are few, and not independent of each other.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from conv2d_tables import RESULT, TIERS, times
from floors import passes
from shapes import LARGE

SETTINGS = {"wgmma": (4, 4), "deep": (8, 3)}
"""Steps of a stage, and stages in shared memory."""
TERMS = ("stage", "step", "slot", "round")


def main(path: Path) -> None:
    record = json.loads(path.read_text())
    for tier in TIERS:
        labels, counts, measured = [], [], []
        for variant, (steps, stages) in SETTINGS.items():
            for label, shape in LARGE.items():
                found = times(record, variant, f"{label}|{tier}")
                if found is None or shape.stride != (1, 1):
                    continue
                tilings = passes(shape, tier == "fp32", steps, stages)
                for part in ("y", "dx"):
                    one = tilings[part]
                    if one.kernel == "general":
                        continue
                    labels.append(f"{variant} {label} {part}")
                    counts.append([one.stages, one.stages * steps, one.slots, one.rounds])
                    measured.append(found[part] * 1e3)
        matrix, weights = np.array(counts, float), 1 / np.array(measured)
        costs, *_ = np.linalg.lstsq(matrix * weights[:, None], np.ones(len(weights)), rcond=None)
        said = ", ".join(f"{cost:.3f} a {term}" for cost, term in zip(costs, TERMS))
        print(f"\n{tier}, microseconds: {said}")
        for label, row, took in zip(labels, matrix, measured):
            each = row * costs
            shares = "".join(f"{x:9.0f}" for x in each)
            print(f"  {label:34}{shares}   sum {each.sum():7.0f}, measured {took:7.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else RESULT)
