"""How long builds take, stock and fast, and whether what comes out is the same.

    python benchmarks/builds.py OUT [--jobs N] [--only WORD …]

Every candidate is built twice from empty artifact stores: as torch does, then with prepared
headers. ``OUT/builds.json`` holds seconds, route and reason, whether both builds end alike
(the verdict, what diagnostics say, the exported symbols, the bytes of the device's code), and on a
GPU whether outputs and gradients on the problem's own inputs agree to the bit, each build in a
process of its own.
C++ candidates are compared without a GPU as well. Needs a C++ compiler; with nvcc and a torch
built with CUDA it builds the CUDA candidates too, with neither only the C++ ones.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from spine import commit  # noqa: E402

from harness.build import ExtensionSpec, diagnostics  # noqa: E402
from harness.build.fast.preparation import Preparation  # noqa: E402
from harness.devices import architectures_of, choose, nvcc, torch_cuda  # noqa: E402
from harness.extract import extract  # noqa: E402
from harness.generation import Generation, Prepared  # noqa: E402
from harness.grader import Grader  # noqa: E402
from harness.problems import find  # noqa: E402
from harness.records import DeviceKind  # noqa: E402
from harness.settings import Settings  # noqa: E402

_RIGHT = "tests/emulation/right"
CANDIDATES = [
    *(f"solutions/{name}.py" for name in ("relu", "softmax", "matmul", "layer_norm", "conv2d")),
    *(
        f"benchmarks/builds/{path.name}"
        for path in sorted((ROOT / "benchmarks/builds").glob("*.py"))
    ),
    "examples/generations/cuda/layer_norm__right.md",
    "examples/generations/cuda/matmul__right.md",
    "examples/generations/cuda/softmax__no_maximum.md",
    "examples/generations/cuda/conv2d__undeclared_function.md",
    "examples/generations/cpp/softmax__right.md",
    "examples/generations/cpp/matmul__right.md",
    f"{_RIGHT}/matmul_half__half2_tiles.py",
    f"{_RIGHT}/matmul_half__wmma.py",
    f"{_RIGHT}/rms_norm__tile16.py",
    f"{_RIGHT}/row_sum__cooperative_groups.py",
    f"{_RIGHT}/softmax_rows__template_reduce.py",
    f"{_RIGHT}/stencil2d__constant_memory.py",
    f"{_RIGHT}/swiglu_bf16__int4_loads.py",
    f"{_RIGHT}/transpose__packed_accessor.py",
]
_UNIT_NAME = re.compile(rb"_[0-9a-f]{8}_\d+_\w*?_cu_[0-9a-f]{8}")
"""How nvcc names a unit, with a hash of its text."""
_NO_GPU = "not compared: no GPU"
_WAYS = ("stock", "fast")


@dataclass
class Candidate:
    """One candidate, and what it asks for."""

    path: str
    prepared: Prepared
    specs: list[ExtensionSpec]

    @property
    def is_cuda(self) -> bool:
        """Whether it needs nvcc, and a GPU to run."""
        return any(spec.is_cuda for spec in self.specs)


@dataclass
class Built:
    """What one way of building made of a candidate."""

    seconds: float
    routes: list[str]
    reasons: list[str]
    verdict: str
    findings: list[str]
    libraries: list[Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 4))
    parser.add_argument("--only", nargs="*", default=[], help="parts of candidates' paths")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as scratch:
        result = measure(Path(scratch), asked.jobs, asked.only)
    record = {
        "device": choose("cuda" if _gpu() else "cpu")[0].model_dump(mode="json"),
        "host_cores": os.cpu_count(),
        "load_at_the_end": os.getloadavg()[0],
        "compilers": {"c++": _first_line(["c++", "--version"]), "nvcc": _release()},
        "commit": commit(),
        "command": f"python benchmarks/builds.py OUT --jobs {asked.jobs}"
        + "".join(f" --only {' '.join(asked.only)}" if asked.only else ""),
        "result": result,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "builds.json").write_text(json.dumps(record, indent=1) + "\n")
    print_table(result)


def measure(scratch: Path, jobs: int, only: list[str]) -> dict[str, Any]:
    """Build everything both ways, ``jobs`` candidates at a time, and compare."""
    settings = {
        way: Settings(
            cache_dir=scratch / way, prepared_dir=scratch / "prepared", fast_builds=way == "fast"
        )
        for way in _WAYS
    }
    # Without a device of their own both only collect and build; the GPU is for the comparison.
    device = "cuda" if _gpu() else "cpu"
    with (
        Grader(device, settings=settings["stock"], clocked=False) as stock,
        Grader(device, settings=settings["fast"], clocked=False) as fast,
        ThreadPoolExecutor(jobs) as pool,
    ):
        paths = [p for p in CANDIDATES if not only or any(word in p for word in only)]
        found = list(pool.map(lambda path: collect(stock, path), paths))
        left_out = [c.path for c in found if c.is_cuda and nvcc() is None]
        found = [c for c in found if c.path not in left_out]
        preparing = {
            " ".join(["cuda" if s.is_cuda else "c++", *s.extra_cflags, *s.extra_cuda_cflags]): s
            for c in found
            for s in c.specs
        }
        seconds = {}
        folders = Preparation(settings["fast"].prepared_dir, architectures_of((choose(device)[1],)))
        for name, spec in preparing.items():
            seconds[name] = timed(folders.folders, spec)
        made: dict[str, list[Built]] = {}
        total = {}
        for way, grader in (("stock", stock), ("fast", fast)):
            begun = time.perf_counter()
            made[way] = list(pool.map(lambda c, g=grader, w=way: build(g, c, scratch, w), found))
            total[way] = round(time.perf_counter() - begun, 1)
    with ThreadPoolExecutor(min(jobs, 4)) as pool:
        compared = list(pool.map(compare, found, made["stock"], made["fast"]))
    return {
        "jobs": jobs,
        "preparation_seconds": seconds,
        "prepared": {name: v.unusable or "usable" for name, v in folders.found().items()},
        "total_seconds": total,
        "left_out": left_out,
        "candidates": compared,
    }


def collect(grader: Grader, path: str) -> Candidate:
    """What a candidate asks to be built."""
    file = ROOT / path
    candidate = extract(file.read_text()).candidate or ""
    name = file.stem.split("__")[0]
    if path.startswith("benchmarks/builds/"):
        name = file.stem.split("_")[0]
    problems = ROOT / "tests/emulation/problems" if path.startswith(_RIGHT) else None
    prepared = Prepared(Generation(path, candidate), find(name, problems), "")
    prepared.candidate = candidate
    return Candidate(path, prepared, grader._shop.collect(prepared))


def build(grader: Grader, candidate: Candidate, scratch: Path, way: str) -> Built:
    """Build everything of a candidate one way; its libraries are copied out of the store."""
    shop = grader._shop
    built = Built(0.0, [], [], "built", [], [])
    for number, spec in enumerate(candidate.specs):
        artifact = shop.builder.build(spec)
        built.seconds += artifact.seconds
        built.routes.append(artifact.route)
        built.reasons += [artifact.reason] if artifact.reason else []
        if not artifact.succeeded:
            text = candidate.prepared.candidate or ""
            found = diagnostics.findings(spec, artifact.log, text)
            built.verdict = "build_failed"
            built.findings += [f"{f.place.line if f.place else '-'}: {f.message}" for f in found]
        elif artifact.library is not None:
            target = scratch / f"{way}-{candidate.path.replace('/', '-')}-{number}.so"
            with open(shop.builder.store.open(artifact), "rb") as library, target.open("wb") as to:
                shutil.copyfileobj(library, to)
            built.libraries.append(target)
    sys.stderr.write(f"{way:5} {built.seconds:6.1f} s  {candidate.path}\n")
    return built


def compare(candidate: Candidate, stock: Built, fast: Built) -> dict[str, Any]:
    """One row of the result."""
    return {
        "candidate": candidate.path,
        "problem": candidate.prepared.problem.name,
        "cuda": candidate.is_cuda,
        "seconds_stock": round(stock.seconds, 2),
        "seconds_fast": round(fast.seconds, 2),
        "routes": fast.routes,
        "reasons": fast.reasons,
        "verdict": fast.verdict,
        "same_verdict": stock.verdict == fast.verdict,
        "same_findings": stock.findings == fast.findings,
        "symbols": _alike(stock, fast, symbols, "nm"),
        "device_code": same_device_code(stock, fast) if candidate.is_cuda else "none",
        "outputs": outputs_of(candidate, stock, fast),
    }


def outputs_of(candidate: Candidate, stock: Built, fast: Built) -> str:
    """Whether outputs and gradients of both builds agree to the bit."""
    if candidate.is_cuda and not _gpu():
        return _NO_GPU
    if not (stock.libraries and fast.libraries):
        return "not compared: nothing was built"
    said = []
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    for built in (stock, fast):
        arguments = [ROOT / candidate.path, candidate.prepared.problem.path, *built.libraries]
        done = subprocess.run(
            [sys.executable, __file__, "--child", *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            return f"not compared: {done.stderr.strip().splitlines()[-1][:300]}"
        said.append(json.loads(done.stdout.splitlines()[-1]))
    if said[0] == said[1]:
        return f"identical: {len(said[0])} tensors"
    return f"different: {[name for name in said[0] if said[0][name] != said[1].get(name)]}"


def child(candidate: Path, problem: Path, libraries: list[Path]) -> None:
    """Run a candidate with given libraries; print a hash of every output and gradient."""
    import torch

    from harness.worker import extension

    remaining = list(libraries)
    extension.intercept(lambda s: extension._import_extension(s["name"], str(remaining.pop(0))))
    found = importlib.util.spec_from_file_location("problem", problem)
    assert found is not None and found.loader is not None
    task = importlib.util.module_from_spec(found)
    found.loader.exec_module(task)
    module: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(extract(candidate.read_text()).candidate or "", "candidate", "exec"), module)
    cuda = torch.cuda.is_available() and "examples/generations/cpp" not in str(candidate)
    device = "cuda" if cuda and "relu_cpp" not in candidate.name else "cpu"
    declared = getattr(task, "DTYPE", None)
    dtype = getattr(torch, declared) if declared else None
    torch.manual_seed(0)
    if device == "cuda":
        draws = [(task.get_init_inputs(), task.get_inputs())]
    else:  # a headline is for a GPU; the small cases will do
        cases = list(task.CASES.values())[:6]
        draws = [(i, [torch.randn(shape) for shape in shapes]) for i, shapes in cases]
    hashes = {}
    for number, (arguments, inputs) in enumerate(draws):
        torch.manual_seed(1)
        make = module["ModelNew"]
        model = make(**arguments) if isinstance(arguments, dict) else make(*arguments)
        model = model.to(device, dtype)
        given = [_placed(x, device, dtype) for x in inputs]
        wanted = getattr(task, "GRADIENTS", "required") != "off"
        given = [_leaf(x) if wanted else x for x in given]
        output = model(*given)
        tensors = {"output": output}
        if wanted and output.requires_grad:
            torch.manual_seed(2)
            output.backward(torch.randn(output.shape, dtype=output.dtype).to(device))
            leaves = [*given, *model.parameters()]
            tensors |= {f"grad {n}": x.grad for n, x in enumerate(leaves) if hasattr(x, "grad")}
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            hashes[f"{number} {name}"] = hashlib.sha256(raw.numpy().tobytes()).hexdigest()
    print(json.dumps(hashes))


def _placed(value: Any, device: str, dtype: Any) -> Any:
    """A tensor on the device, in the problem's declared precision where it is a floating one."""
    if not hasattr(value, "is_floating_point"):
        return value
    return value.to(device, dtype if value.is_floating_point() else None)


def _leaf(value: Any) -> Any:
    tensor = hasattr(value, "is_floating_point") and value.is_floating_point()
    return value.detach().requires_grad_(True) if tensor else value


def symbols(library: Path) -> list[str]:
    """What a library exports, but for inline functions of headers that each build may keep."""
    done = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    )
    rows = [row.split()[-2:] for row in done.stdout.splitlines()]
    return sorted(name for kind, name in rows if kind in "TDBR")


def device_code(library: Path) -> list[str]:
    """A hash of what a library holds for the GPU, but for the name that its unit goes by."""
    with tempfile.TemporaryDirectory() as scratch:
        part = Path(scratch) / "part"
        command = ["objcopy", "--dump-section", f".nv_fatbin={part}", str(library), f"{part}.so"]
        subprocess.run(command, capture_output=True, check=True)
        code = _UNIT_NAME.sub(b"unit", part.read_bytes())
    return [hashlib.sha256(code).hexdigest()]


def instructions(library: Path) -> list[str]:
    """A hash of a library's instructions for the GPU, without line tables."""
    command = ["cuobjdump", "-sass", str(library)]
    done = subprocess.run(command, capture_output=True, check=True)
    code = [line for line in done.stdout.splitlines() if b"/*" in line or b"Function :" in line]
    return [hashlib.sha256(_UNIT_NAME.sub(b"unit", b"\n".join(code))).hexdigest()]


def same_device_code(stock: Built, fast: Built) -> str:
    """Whether both hold the same for the GPU, to the byte or at least to the instruction."""
    said = _alike(stock, fast, device_code, "objcopy")
    if said.startswith("different") and shutil.which("cuobjdump"):
        executed = _alike(stock, fast, instructions, "cuobjdump")
        if executed.startswith("identical"):
            return "instructions identical, line tables not"
    return said


def _alike(stock: Built, fast: Built, read: Callable[[Path], list[str]], tool: str) -> str:
    if not (stock.libraries and fast.libraries):
        return "not compared: nothing was linked"
    if shutil.which(tool) is None:
        return f"not compared: no {tool}"
    both = [[read(path) for path in built.libraries] for built in (stock, fast)]
    if both[0] == both[1]:
        return f"identical: {sum(map(len, both[0]))}"
    one, other = ({s for names in way for s in names} for way in both)
    return f"different: {sorted(one ^ other)[:6]}"


def timed(function: Callable[[ExtensionSpec], object], spec: ExtensionSpec) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    function(spec)
    return round(time.perf_counter() - begun, 2)


def print_table(result: dict[str, Any]) -> None:
    """What a person wants to know."""
    print(f"{'candidate':58} {'stock':>7} {'fast':>7}  way")
    for row in result["candidates"]:
        same = row["same_verdict"] and row["same_findings"]
        notes = [*row["routes"], *row["reasons"], "" if same else "OTHER VERDICT OR FINDINGS"]
        compared = [row["symbols"], row["device_code"], row["outputs"]]
        notes += [text for text in compared if "identical" not in text and text != "none"]
        print(
            f"{row['candidate']:58} {row['seconds_stock']:7.1f} {row['seconds_fast']:7.1f}  "
            + "; ".join(filter(None, notes))
        )
    print(f"all: {result['total_seconds']}, prepared in {result['preparation_seconds']}")


def _gpu() -> bool:
    try:
        return choose("auto")[0].kind is DeviceKind.CUDA
    except Exception:
        return False


def _release() -> str:
    lines = _first_line([nvcc() or "true", "--version"], -1)
    return f"{lines}; torch for CUDA {torch_cuda() or 'none'}"


def _first_line(command: list[str], which: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = done.stdout.splitlines()
    return rows[which] if rows else "none"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]), [Path(p) for p in sys.argv[4:]])
    else:
        main()
