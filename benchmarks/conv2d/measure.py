"""Builds, judges and clocks the conv2d variants and cuDNN on one GPU.

    python benchmarks/conv2d/measure.py OUT [--seconds N]

All variants are built side by side while cuDNN's default is clocked; then each is judged against
float64 and clocked in a process of its own, so that a crash or a hang ends that one only.
``wgmma`` and ``mma`` are judged on all small shapes and the headline and clocked on all large
shapes, the others on the headline. Passes are called one by one (y, dx, dw; no autograd, no bias
gradient): a time is the median of 3 to 20 calls by CUDA events, with the cache as the call before
left it. What does not fit into the N seconds is left out. Writes ``OUT/conv2d_variants.json``
(committed under ``benchmarks/results``) and prints the tables of ``conv2d_tables.py``. Needs a
Hopper GPU and nvcc.

Does not: use the project's own clock, pair a variant with cuDNN, or record the GPU's clocks;
so a result is a guide for the next change, not a claim of speed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import conv2d_tables  # noqa: E402
from assemble import assemble  # noqa: E402
from shapes import HEADLINE, REST, SMALL, Shape  # noqa: E402

SWAPPED = [
    ("uint64_t(depth_pitch >> 4) << 16", "uint64_t(depth_pitch >> 4) << 32"),
    ("uint64_t(row_pitch >> 4) << 32", "uint64_t(row_pitch >> 4) << 16"),
]
DEEP = [
    ("kStageSteps = 4;", "kStageSteps = 8;"),
    ("kStages = 4;", "kStages = 3;"),
    ("kRowBatch = 6;", "kRowBatch = 4;"),
]
VARIANTS: dict[str, tuple[bool, list[tuple[str, str]], str]] = {
    "wgmma": (True, [], "all"),
    "mma": (False, [], "all"),
    "deep": (True, DEEP, "headline"),
    "flat": (True, [("tall = ceil_div(c.maps, 64) % 2 == 0;", "tall = false;")], "headline"),
    "quads4": (True, [("kMaxQuads = 8;", "kMaxQuads = 4;")], "headline"),
    "swapped": (True, SWAPPED, "if wgmma is wrong"),
}
"""Whether by wgmma, substitutions in the text, and what to do."""
PASSES = ("y", "dx", "dw")
TF32_BUDGET, TF32_WEIGHT_BUDGET, FP32_BUDGET = 5e-4, 1e-3, 4e-6
CALL_SECONDS = 0.12
"""Of calls between whose events nothing waits."""
SECONDS = {"all": 75.0, "headline": 30.0}

Passes = dict[str, Callable[[], Any]]


def text_of(name: str) -> str:
    """A variant's module as it is built."""
    hopper, changes, _ = VARIANTS[name]
    text = assemble(hopper).replace('name="conv2d_solution"', f'name="conv2d_{name}"')
    for old, new in changes:
        if old not in text:
            raise SystemExit(f"{name}: the text no longer holds {old!r}")
        text = text.replace(old, new)
    if hopper:
        return text.replace('"-DCONV2D_HOPPER"', '"-DCONV2D_HOPPER", "--split-compile=4"')
    sources = "    cuda_sources=cuda_source,\n"
    return text.replace(sources, sources + '    extra_cuda_cflags=["--split-compile=4"],\n')


def load(name: str, work: Path) -> Any:
    """A variant's extension; the first call builds it."""
    if not VARIANTS[name][0]:
        os.environ["TORCH_CUDA_ARCH_LIST"] = "9.0"
    os.environ["TORCH_EXTENSIONS_DIR"] = str(work / "ext")
    path = work / f"{name}.py"
    path.write_text(text_of(name))
    spec = importlib.util.spec_from_file_location(f"variant_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.conv2d_extension


def passes(
    shape: Shape, extension: Any, tf32: bool, generator: Any
) -> tuple[Passes, Callable[[], Iterator[tuple[str, Any]]]]:
    """The three passes (cuDNN's where there is no extension), and their float64 results."""
    import torch

    n, c, h, wide, f, kernel, _, _, _, groups, bias = shape
    device = "cuda"
    x = torch.rand(n, c, h, wide, device=device, generator=generator)
    bound = (c // groups * kernel[0] * kernel[1]) ** -0.5
    w = (torch.rand(f, c // groups, *kernel, device=device, generator=generator) * 2 - 1) * bound
    b = torch.rand(f, device=device, generator=generator) if bias else None
    dy = torch.randn(n, f, *shape.out(), device=device, generator=generator)
    s, p, d = list(shape.stride), list(shape.padding), list(shape.dilation)

    def native(mask: list[bool], x: Any = x, w: Any = w, dy: Any = dy) -> Any:
        backward = torch.ops.aten.convolution_backward
        return backward(dy, x, w, None, s, p, d, False, [0, 0], groups, mask)

    do: Passes
    if extension is None:
        do = {
            "y": lambda: torch.nn.functional.conv2d(x, w, b, s, p, d, groups),
            "dx": lambda: native([True, False, False])[0],
            "dw": lambda: native([False, True, False])[1],
        }
    else:
        do = {
            "y": lambda: extension.conv2d_forward(x, w, b, s, p, d, groups, tf32),
            "dx": lambda: extension.conv2d_grad_input(dy, x, w, s, p, d, groups, tf32),
            "dw": lambda: extension.conv2d_grad_weight(dy, x, w, s, p, d, groups, tf32),
        }

    def exact() -> Iterator[tuple[str, Any]]:
        x6, w6, dy6 = x.double(), w.double(), dy.double()
        b6 = b.double() if b is not None else None
        yield "y", torch.nn.functional.conv2d(x6, w6, b6, s, p, d, groups)
        dx, dw, _ = native([True, True, False], x6, w6, dy6)
        yield "dx", dx
        yield "dw", dw

    return do, exact


def clock(call: Callable[[], Any]) -> float:
    """Milliseconds of a call: the median of a few, by events."""
    import torch

    call()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    torch.cuda.synchronize()
    took = max(time.perf_counter() - begun, 1e-5)
    events = []
    for _ in range(max(3, min(20, int(CALL_SECONDS / took)))):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    times = sorted(float(start.elapsed_time(end)) for start, end in events)
    return times[len(times) // 2]


def job(name: str, what: str, out: Path, work: Path) -> None:
    """Judge and clock one variant, in this process; what is known is saved at every step."""
    import torch

    result: dict[str, Any] = {"errors": {}, "times": {}}
    extension = None if name.startswith("cudnn") else load(name, work)
    torch.backends.cudnn.benchmark = name == "cudnn_benchmark"

    def judge(
        shapes: dict[str, Shape], exactly: bool, precisions: tuple[bool, ...] = (True, False)
    ) -> None:
        for label, shape in shapes.items():
            for tf32 in precisions:
                key = f"{label}|{'tf32' if tf32 else 'fp32'}"
                torch.backends.cudnn.allow_tf32 = tf32
                try:
                    generator = torch.Generator("cuda").manual_seed(1)
                    do, exact = passes(shape, extension, tf32, generator)
                    if exactly:
                        errors = {}
                        for part, right in exact():
                            errors[part] = float(
                                (do[part]().double() - right).norm() / right.norm()
                            )
                            del right
                        if extension is not None:
                            errors["same"] = float(torch.equal(do["dw"](), do["dw"]()))
                        result["errors"][key] = errors
                    else:
                        result["times"][key] = {part: clock(call) for part, call in do.items()}
                        result["times"][key]["gflop"] = shape.flop() / 1e9
                except torch.cuda.OutOfMemoryError:
                    result["errors"][key] = "out of memory"
                except Exception as error:  # one about CUDA would come again with every call
                    result["errors"][key] = str(error).splitlines()[0][:150]
                    if "CUDA" in str(error):
                        out.write_text(json.dumps(result))
                        raise
                out.write_text(json.dumps(result))
                torch.cuda.empty_cache()

    probe = {label: SMALL[label] for label in ("33", "57_pad")}
    if what == "probe":
        judge(probe, True)
    elif what == "headline":
        judge({"57_pad": SMALL["57_pad"]}, True)
        judge(HEADLINE, False)
    elif what == "cudnn":
        judge(HEADLINE, True)
        judge(HEADLINE, False)
        judge(REST, False)
    else:
        judge(SMALL, True)
        judge(HEADLINE, True)
        judge(HEADLINE, False)
        judge(REST, False, (True,) if name == "mma" else (True, False))


def wrong(errors: Any, tf32: bool) -> bool:
    """Whether a judged shape is beyond what the issue allows by a margin for small shapes."""
    if isinstance(errors, str):
        return True
    if not tf32:
        return any(not errors[part] < FP32_BUDGET for part in PASSES)
    return any(
        not errors[part] < (TF32_WEIGHT_BUDGET if part == "dw" else TF32_BUDGET) for part in PASSES
    )


class Run:
    """One measurement: builds in the background, one job after another on the GPU."""

    def __init__(self, work: Path, seconds: float) -> None:
        self.work, self.seconds, self.begun = work, seconds, time.time()
        self.results: dict[str, Any] = {}
        self.builds: dict[str, subprocess.Popen[bytes]] = {}

    def left(self) -> float:
        """Seconds that may still be used."""
        return max(5.0, self.seconds - (time.time() - self.begun))

    def say(self, text: str) -> None:
        """One line for whoever watches."""
        sys.stderr.write(f"[{time.time() - self.begun:5.1f} s] {text}\n")

    def build_all(self) -> None:
        """Begin every variant's build."""
        for name in VARIANTS:
            with (self.work / f"build_{name}.log").open("w") as log:
                self.builds[name] = subprocess.Popen(
                    [sys.executable, __file__, "--build", name, str(self.work)],
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"MAX_JOBS": "3"},
                )

    def built(self, name: str) -> bool:
        """Wait for a build."""
        try:
            code: int | str = self.builds[name].wait(timeout=max(self.left() - 20, 1))
        except subprocess.TimeoutExpired:
            self.builds[name].kill()
            code = "killed"
        self.say(f"built {name}: {code}")
        if code != 0:
            rows = (self.work / f"build_{name}.log").read_text().splitlines()
            self.results[name] = {"end": " / ".join(rows[-8:])[-1500:], "errors": {}, "times": {}}
        return code == 0

    def run(self, name: str, what: str, seconds: float) -> None:
        """One job in a process of its own."""
        file = self.work / f"{name}_{what}.json"
        command = [sys.executable, __file__, "--job", name, what, str(file), str(self.work)]
        try:
            done = subprocess.run(
                command,
                timeout=min(seconds, self.left()),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            said = " / ".join(done.stdout.splitlines()[-3:])[-300:]
            end = f"exit {done.returncode}: {said}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            end = "timed out"
        got = json.loads(file.read_text()) if file.exists() else {"errors": {}, "times": {}}
        self.results[name] = {"what": what, "end": end, **got}
        if name in VARIANTS:
            self.results[name]["substitutions"] = VARIANTS[name][1]
            self.results[name]["sha256"] = hashlib.sha256(text_of(name).encode()).hexdigest()
        bad = [key for key, e in got["errors"].items() if wrong(e, key.endswith("tf32"))]
        self.say(f"{name} {what}: {end or 'done'}" + (f", wrong: {bad}" if bad else ""))

    def everything(self) -> None:
        """The whole measurement."""
        self.build_all()
        self.run("cudnn_default", "cudnn", 60)  # while the builds go on
        doubtful = False
        for name, (_, _, what) in VARIANTS.items():
            if what not in SECONDS and not doubtful:
                self.builds[name].kill()
                continue
            if self.left() > 15 and self.built(name):
                self.run(name, what if what in SECONDS else "probe", SECONDS.get(what, 25))
            if name == "wgmma":
                errors = self.results.get(name, {"errors": {}})["errors"].get("33|tf32", "none")
                doubtful = isinstance(errors, str) or not errors["y"] < TF32_BUDGET
        if self.left() > 20:
            self.run("cudnn_benchmark", "headline", 25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=240)
    asked = parser.parse_args()
    from spine import commit

    from harness.devices import choose

    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as scratch:
        run = Run(Path(scratch), asked.seconds)
        try:
            run.everything()
        finally:
            for build in run.builds.values():
                build.kill()
    record = {
        "device": choose("cuda")[0].model_dump(mode="json"),
        "host_cores": os.cpu_count(),
        "commit": commit(),
        "command": f"python benchmarks/conv2d/measure.py OUT --seconds {asked.seconds:g}",
        "result": {"seconds": round(time.time() - run.begun), "variants": run.results},
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "conv2d_variants.json").write_text(json.dumps(record, indent=1) + "\n")
    print(conv2d_tables.all_of(record))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        load(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--job"]:
        job(sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))
    else:
        main()
