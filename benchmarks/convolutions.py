"""The conv2d solution on large convolutions: the clock's speedups over cuDNN, errors, and kernels.

    python benchmarks/convolutions.py OUT PART [--seconds N]

Parts, of which the first three write ``convolutions_PART.json`` into OUT:

    clock     forward, backward and training step by the project's clock, paired with cuDNN's
              default and with ``cudnn.benchmark``, TF32 on and off; then either gradient alone
    kernels   relative L2 error of y, dx and dw against float64, and the milliseconds of every
              kernel of a training step by torch's profiler
    mma       the same as kernels, built with Ampere's instructions, which a Hopper runs too
    passes    nothing but one training step of a few small shapes in both precisions, and no file:
              for ``compute-sanitizer --tool TOOL python benchmarks/convolutions.py OUT passes``
    steps     the same of the largest shapes: for ``convolution_counters.py``

A part that reaches its limit ends by itself; what it got through is in the file. Needs an NVIDIA
GPU. Does not: judge (``kernel-harness grade solutions/conv2d.py --problem conv2d`` does).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spine import record_of

from harness.devices import choose
from harness.grader import Grader
from harness.problems import ProblemFile, find
from harness.settings import Settings
from tests.solutions.convolution import SOLUTION, Convolution, solution

LARGEST = {
    "headline": Convolution(8, 64, 512, 256, 128, (5, 7)),
    "5x9": Convolution(8, 32, 512, 512, 64, (5, 9)),
    "5x9 dilated": Convolution(8, 32, 512, 512, 64, (5, 9), (1, 1), (2, 4), (2, 3)),
}
SMALL = {
    "5x7": Convolution(2, 40, 35, 37, 72, (5, 7), padding=(2, 3)),
    "3x3, stride 2": Convolution(4, 40, 95, 97, 72, (3, 3), (2, 2), (1, 1)),
    "1x1": Convolution(18, 72, 25, 27, 136, (1, 1)),
    "2 groups": Convolution(8, 64, 33, 35, 64, (3, 3), padding=(1, 1), groups=2),
}
OTHERS = {
    "ResNet 64 at 56": Convolution(64, 64, 56, 56, 64, (3, 3), padding=(1, 1)),
    "ResNet 128 at 28": Convolution(64, 128, 28, 28, 128, (3, 3), padding=(1, 1)),
    "ResNet 256 at 14": Convolution(64, 256, 14, 14, 256, (3, 3), padding=(1, 1)),
    "3x3, stride 2": Convolution(64, 128, 56, 56, 128, (3, 3), (2, 2), (1, 1)),
    "1x1, 256 to 64": Convolution(64, 256, 56, 56, 64, (1, 1)),
    "1x1, 256 to 1024": Convolution(64, 256, 14, 14, 1024, (1, 1)),
    "VGG 128 at 112": Convolution(8, 128, 112, 112, 128, (3, 3), padding=(1, 1)),
    "4 groups": Convolution(64, 256, 28, 28, 256, (3, 3), padding=(1, 1), groups=4),
    "one odd image": Convolution(1, 256, 99, 101, 256, (3, 3), padding=(1, 1)),
    "ConvNeXt depthwise": Convolution(32, 96, 56, 56, 96, (7, 7), padding=(3, 3), groups=96),
}
TIMED = LARGEST | OTHERS


ALONE = {
    "grad-input": (
        "    def __init__(self, *args, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n"
        "        self.requires_grad_(False)\n"
    ),
    "grad-weight": "    def forward(self, x):\n        return super().forward(x.detach())\n",
}
"""What is to be said of a module for its backward to be one gradient alone."""


@dataclass(frozen=True)
class Row:
    """What is clocked at a time; without ``gradient`` both make the backward."""

    shape: str
    tf32: bool
    benchmark: bool
    gradient: str = ""

    def of(self, module: str, text: str) -> str:
        """A text that defines a module of this name, with its backward as it is wanted."""
        if not self.gradient:
            return text
        return f"{text}\n\nclass {module}({module}):\n{ALONE[self.gradient]}"


def problem(shape: Convolution, tf32: bool, benchmark: bool) -> str:
    """The text of a problem: the shipped conv2d's model with these numbers and no cases."""
    text = find("conv2d").source
    _, channels, *_ = shape.x
    configuration = [channels, shape.filters, shape.kernel, *shape.geometry]
    return (
        text[: text.index("batch_size =")]
        + f"torch.backends.cudnn.benchmark = {benchmark}\n"
        + f'TF32 = "{"allowed" if tf32 else "forbidden"}"\n'
        + f'GRADIENTS = "required"\n\n\ndef get_inputs():\n    return [torch.rand{shape.x}]\n'
        + f"\n\ndef get_init_inputs():\n    return {configuration}\n"
    )


def wanted() -> Iterator[Row]:
    """The most important first."""
    for benchmark in (False, True):
        for tf32 in (True, False):
            yield from (Row(name, tf32, benchmark) for name in LARGEST)
    for benchmark in (False, True):
        for tf32 in (True, False):
            yield from (Row(name, tf32, benchmark) for name in OTHERS)
    for benchmark, shapes in ((False, TIMED), (True, LARGEST)):
        for tf32 in (True, False):
            for gradient in ALONE:
                yield from (Row(name, tf32, benchmark, gradient) for name in shapes)


def clocked(out: Path, until: float, device: str = "cuda") -> None:
    """Clock the solution beside the reference, shape by shape."""
    rows: list[dict[str, Any]] = []
    text = SOLUTION.read_text()
    problem_file = out / "conv2d_of_one_size.py"
    with Grader(device, settings=Settings(clock_seconds=1.0)) as grader:
        for row in wanted():
            shape, begun = TIMED[row.shape], time.time()
            if begun > until:
                break
            problem_file.write_text(row.of("Model", problem(shape, row.tf32, row.benchmark)))
            found, failures = grader.baseline(
                ProblemFile.read(problem_file), row.of("ModelNew", text), ("solution",)
            )
            rows.append(
                {
                    "shape": row.shape,
                    "precision": "tf32" if row.tf32 else "fp32",
                    "cudnn_benchmark": row.benchmark,
                    "gradient": row.gradient,
                    "gflop": shape.flop / 1e9,
                    "failures": failures,
                    "speedups": [one.model_dump(mode="json") for one in found.get("solution", ())],
                }
            )
            print(
                f"{row.shape:20} {'tf32' if row.tf32 else 'fp32'}",
                f"{'benchmark' if row.benchmark else ''} {row.gradient}",
                *(
                    f"{one.mode.value} {one.speedup:.3f}x of {one.reference.milliseconds:.3f} ms"
                    for one in found.get("solution", ())
                ),
                failures or "",
                f"({time.time() - begun:.1f} s)",
                flush=True,
            )
            write(out, "clock", rows)
    problem_file.unlink()


def kernels(out: Path, until: float, part: str = "kernels") -> None:
    """Errors and kernels of one training step, shape by shape."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    module = solution("compute_80" if part == "mma" else None)
    apply = module.Conv2dFunction.apply
    rows: list[dict[str, Any]] = []
    for name, shape in TIMED.items():
        (x, w, dy), geometry = operands(shape), shape.geometry
        true = in_float64(x.detach(), w.detach(), dy, geometry)
        for tf32 in (True, False):
            if time.time() > until:
                return
            torch.backends.cudnn.allow_tf32 = tf32

            step = partial(training_step, apply, x, w, dy, geometry)
            stock = partial(training_step, torch.nn.functional.conv2d, x, w, dy, geometry)
            ours, again, theirs = step(), step(), stock()
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                step()
                torch.cuda.synchronize()
            rows.append(
                {
                    "shape": name,
                    "precision": "tf32" if tf32 else "fp32",
                    "gflop": shape.flop / 1e9,
                    "errors": errors(ours, true),
                    "cudnn_errors": errors(theirs, true),
                    "reproducible": all(torch.equal(a, b) for a, b in zip(ours, again)),
                    "kernels": {
                        e.key.replace("(anonymous namespace)::", "").split("(")[0]: [
                            e.count,
                            round(e.device_time_total / 1e3, 4),
                        ]
                        for e in seen.key_averages()
                        if e.device_time_total
                    },
                }
            )
            print(name, rows[-1]["precision"], rows[-1]["errors"], rows[-1]["kernels"])
            write(out, part, rows)
            del ours, again, theirs
        del true
        torch.cuda.empty_cache()


def steps(shapes: dict[str, Convolution]) -> None:
    """One training step of each shape in both precisions."""
    import torch

    apply = solution().Conv2dFunction.apply
    for name, shape in shapes.items():
        x, w, dy = operands(shape)
        for tf32 in (True, False):
            torch.backends.cudnn.allow_tf32 = tf32
            training_step(apply, x, w, dy, shape.geometry)
        torch.cuda.synchronize()
        print(name, f"{shape.flop / 2e6:.0f} million products a pass")


def operands(shape: Convolution) -> tuple[Any, Any, Any]:
    """X and the weights, which want gradients, and dy."""
    import torch

    torch.manual_seed(0)
    x, w = torch.rand(shape.x, device="cuda"), torch.randn(shape.weight, device="cuda")
    dy = torch.randn(shape.y, device="cuda")
    return x.requires_grad_(), w.requires_grad_(), dy


def training_step(conv2d: Callable[..., Any], x: Any, w: Any, dy: Any, geometry: Any) -> Any:
    """The output and both gradients."""
    import torch

    y = conv2d(x, w, None, *geometry)
    return (y, *torch.autograd.grad(y, (x, w), dy))


def in_float64(x: Any, w: Any, dy: Any, geometry: tuple[Any, ...]) -> list[Any]:
    """The first image's output and gradient, and dw, in float64, image by image."""
    import torch

    stride, padding, dilation, groups = (list(g) if isinstance(g, tuple) else g for g in geometry)
    results: list[Any] = []
    weight = w.double()
    for n in range(x.shape[0]):
        image = x[n : n + 1].double()
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy[n : n + 1].double(), image, weight, None, stride, padding, dilation, False, [0, 0],
            groups, [n == 0, True, False],
        )  # fmt: skip
        if n == 0:
            results = [torch.nn.functional.conv2d(image, weight, None, *geometry), dx, dw]
        else:
            results[2] += dw
    return results


def errors(found: tuple[Any, ...], true: list[Any]) -> dict[str, float]:
    """Relative L2 errors."""
    parts = (found[0][:1], found[1][:1], found[2])
    return {
        name: float((part.double() - exact).norm() / exact.norm())
        for name, part, exact in zip(("y", "dx", "dw"), parts, true)
    }


def write(out: Path, part: str, rows: list[dict[str, Any]]) -> None:
    """What was got through so far, with the machine."""
    record = record_of(choose("cuda")[0], f"convolutions.py OUT {part}", {"rows": rows})
    (out / f"convolutions_{part}.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("part", choices=("clock", "kernels", "mma", "passes", "steps"))
    parser.add_argument("--seconds", type=float, default=3600.0)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    until = time.time() + asked.seconds
    if asked.part == "clock":
        clocked(asked.out, until)
    elif asked.part in ("kernels", "mma"):
        kernels(asked.out, until, asked.part)
    else:
        steps(SMALL if asked.part == "passes" else LARGEST)


if __name__ == "__main__":
    main()
