"""Fast builds, without a compiler: what is read of a unit, nvcc's steps, headers, folders."""

from __future__ import annotations

from pathlib import Path

import children
import pytest

from harness.build.fast import commands, shim, stages
from harness.build.fast.reading import Reading, read
from harness.build.fast.shim import Operators
from harness.build.units import Unit
from harness.preparing import once

OPERATORS = Operators(
    functions={"empty": "ATen/ops/empty.h", "max": "ATen/ops/max.h", "mm_out": "ATen/ops/mm.h"},
    factories={"empty": "kernel_harness/factories/empty.h"},
)
MACROS = {
    "bindings": frozenset({"TORCH_LIBRARY", "TORCH_VERSION_MAJOR"}),
    "types": frozenset({"TORCH_LIBRARY"}),
    "extension": frozenset({"TORCH_LIBRARY", "TORCH_VERSION_MAJOR"}),
}
IMPLICIT = ("#include <torch/types.h>", "#include <cuda.h>", "#include <cuda_runtime.h>")

FACTORIES = """
namespace torch {

inline at::Tensor empty(at::IntArrayRef size, at::TensorOptions options = {}) {
  at::AutoDispatchBelowADInplaceOrView guard;
  return autograd::make_variable(at::empty(size), options.requires_grad());
}
inline at::Tensor empty_symint(c10::SymIntArrayRef size) {
  return autograd::make_variable(at::empty_symint(size), false);
}

} // namespace torch
"""
OPERATOR = """#pragma once
#include <ATen/Context.h>
#include <ATen/DeviceGuard.h>
#include <ATen/TracerMode.h>
#include <ATen/ops/empty_ops.h>
namespace at {
inline at::Tensor empty(at::IntArrayRef size) {
}
inline at::Tensor & empty_out(at::Tensor & out, at::IntArrayRef size) {
}
}
"""
GUARD = """#include <ATen/core/IListRef.h>
#include <ATen/core/Tensor.h>
inline std::optional<Device> device_of(const Tensor& t) {
}
inline std::optional<Device> device_of(ITensorListRef t) {
  if (!t.empty()) {
    return device_of(t.front());
  }
}
"""

MAKE = """
import sys
from pathlib import Path
from harness.build.fast import shim
from harness.preparing import once
torch, root = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
made = once(root, "fast-0", lambda folder: shim.make(torch, folder))
print(len(list(made.rglob("*.h"))), len(shim.operators(made).functions))
"""


def cuda(text: str, implicit: tuple[str, ...] = IMPLICIT) -> Reading:
    return read(Unit("cuda.cu", implicit, text), [], OPERATORS, MACROS)


def cpp(text: str) -> Reading:
    unit = Unit("main.cpp", ("#include <torch/extension.h>",), text)
    return read(unit, [], OPERATORS, MACROS)


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    """An include folder with what of torch's is read."""
    include = tmp_path / "include"
    generated = include / "torch" / "csrc" / "autograd" / "generated"
    operators = include / "ATen" / "ops"
    operators.mkdir(parents=True)
    generated.mkdir(parents=True)
    (generated / "variable_factories.h").write_text(FACTORIES)
    (operators / "empty.h").write_text(OPERATOR)
    (operators / "empty_ops.h").write_text("struct empty_memory_format;\n")
    (include / "ATen" / "DeviceGuard.h").write_text(GUARD)
    return include


# What is read of a unit


def test_a_unit_gets_the_operators_that_it_names() -> None:
    found = cuda("auto y = torch::empty({1}, x.options()); at::mm_out(y, a, b);")
    assert found.stock is None
    assert set(found.headers) == {
        "ATen/ops/empty.h",
        "kernel_harness/factories/empty.h",
        "ATen/ops/mm.h",
    }


def test_methods_need_no_header_and_unqualified_calls_do() -> None:
    assert cuda("auto y = x.max();  auto z = p->max();").headers == ()
    assert cuda("auto y = max(a, b);").headers == ("ATen/ops/max.h",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("torch::nn::Linear layer(1, 1);", "names torch::nn"),
        ("struct F : torch::autograd::Function<F> {};", "names autograd"),
        ("PyObject* none();", "names PyObject in a CUDA source"),
        ("TORCH_LIBRARY(name, m) {}", "names TORCH_LIBRARY"),
        ("#define T float\n#include <ATen/cuda/CUDAContext.h>", "includes ATen/cuda/CUDAContext.h"),
    ],
)
def test_what_would_mean_something_else_is_built_the_stock_way(text: str, why: str) -> None:
    assert (cuda(text).stock or "").startswith(why)


def test_a_macro_counts_only_where_torch_s_header_would_bring_it() -> None:
    text = "#if TORCH_VERSION_MAJOR >= 2\n#endif\n"
    assert cuda(text).stock is None
    assert cuda("#include <torch/extension.h>\n" + text).stock == "names TORCH_VERSION_MAJOR"
    assert cpp(text).stock == "names TORCH_VERSION_MAJOR"


def test_a_macro_in_one_of_the_candidate_s_own_headers_counts() -> None:
    unit = Unit("cuda.cu", IMPLICIT, '#include "own.cuh"\n')
    assert read(unit, ["TORCH_LIBRARY(a, b) {}"], OPERATORS, MACROS).stock == "names TORCH_LIBRARY"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("// a comment\n#include <vector>\n#include <torch/extension.h>\nint x;", True),
        ("#define N 4\n#include <torch/extension.h>\n", False),
        ("#include <ATen/ATen.h>\nint x;", False),
        ("__global__ void kernel() {}", False),
    ],
)
def test_a_file_has_to_begin_with_torch_s_header(text: str, fits: bool) -> None:
    assert (cuda(text, implicit=()).stock is None) is fits


# nvcc's steps

DRYRUN = """#$ _SPACE_=
#$ CICC_PATH=/cuda/nvvm/bin
#$ PATH=/cuda/bin:/usr/bin
#$ gcc -E -x c++ -DA "u.cu" -o "f/u.cpp4.ii"
#$ cudafe++ --c++17 --orig_src_path_name "/w/u.cu" --gen_c_file_name "f/u.cudafe1.cpp" \
--gen_module_id_file --module_id_file_name "f/u.module_id" "f/u.cpp4.ii"
#$ gcc -E -x c++ -DB "u.cu" -o "f/u.cpp1.ii"
#$ "$CICC_PATH/cicc" --module_id_file_name "f/u.module_id" "f/u.cpp1.ii" -o "f/u.ptx"
#$ ptxas "f/u.ptx" -o "f/u.cubin"
#$ fatbinary --embedded-fatbin="f/u.fatbin.c"
#$ gcc -c -x c++ "f/u.cudafe1.cpp" -o "u.o"
""".splitlines()


def test_the_steps_of_nvcc_are_taken_apart() -> None:
    found = stages.parse(DRYRUN, Path("/w"))
    assert found is not None
    assert found.split_source[-1] == "f/u.cpp4.ii"
    assert found.device[0] == "/cuda/nvvm/bin/cicc"
    assert found.host_code == "f/u.cudafe1.cpp"
    assert "--gen_module_id_file" not in found.split
    assert "/w/u.cu" not in found.split, "the name of the work folder is to be nowhere"
    assert dict(found.environment) == {"CICC_PATH": "/cuda/nvvm/bin", "PATH": "/cuda/bin:/usr/bin"}


@pytest.mark.parametrize(
    "lines",
    [
        DRYRUN[:-1],
        [*DRYRUN, DRYRUN[-1]],
        [*DRYRUN, "#$ nvlink a.o"],
        [line.replace("--c++17", "--c++17 --device-c") for line in DRYRUN],
        [line + " > /tmp/out" for line in DRYRUN],
    ],
    ids=["too few", "one twice", "unknown", "linked on the device", "redirected"],
)
def test_steps_that_look_otherwise_are_left_to_nvcc(lines: list[str]) -> None:
    assert stages.parse(lines, Path("/w")) is None


def test_units_of_one_library_go_by_different_names() -> None:
    names = {stages.module_name(unit) for unit in ("cuda.cu", "a.cu", "b.cu")}
    assert len(names) == 3
    assert stages.module_name("cuda.cu").split("_")[2] == str(len("cuda_cu"))


# Flags


def test_the_identity_of_flags_is_what_a_precompiled_header_depends_on() -> None:
    flags = (
        "-DTORCH_EXTENSION_NAME=a -I/x -isystem /y -fPIC -std=c++17 -O2 -Wall -O3 -c -o a.o a.cpp"
    )
    assert commands.identity(flags.split()) == ["-fPIC", "-std=c++17", "-O3"]
    assert commands.identity([*flags.split(), "-DNDEBUG"]) != commands.identity(flags.split())
    assert commands.identity([*flags.split(), "-Wl,x"]) != commands.identity(flags.split())


# Headers and folders


def test_headers_are_torch_s_own_with_fewer_includes(torch: Path, tmp_path: Path) -> None:
    shim.make(torch, made := tmp_path / "made")
    operator = (made / "ATen" / "ops" / "empty.h").read_text()
    assert "ATen/Context.h" not in operator
    assert "ATen/TracerMode.h" in operator
    guard = (made / "ATen" / "DeviceGuard.h").read_text()
    assert "ITensorListRef" not in guard and "IListRef" not in guard and "const Tensor&" in guard
    factory = (made / "kernel_harness" / "factories" / "empty.h").read_text()
    assert "::kernel_harness::fresh(at::empty(size), options.requires_grad())" in factory
    found = shim.operators(made)
    assert found.needed({"empty_out", "nothing"}) == ["ATen/ops/empty.h"]
    assert found.needed({"empty"}) == ["ATen/ops/empty.h", "kernel_harness/factories/empty.h"]


def test_two_processes_that_prepare_at_once_get_whole_folders(torch: Path, tmp_path: Path) -> None:
    root = tmp_path / "prepared"
    both = [children.start(MAKE, torch, root) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = [process.communicate("\n", timeout=60)[0] for process in both]
    assert len(set(said)) == 1, said
    assert sorted(p.name for p in root.iterdir() if p.is_dir()) == ["fast-0"]


def test_what_failed_to_be_prepared_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        once(tmp_path, "folder", fail)
    assert not any(p.is_dir() for p in tmp_path.iterdir())
