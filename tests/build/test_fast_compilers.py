"""Fast builds with this machine's own compilers: what comes out is what a stock build gives."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import children
import pytest

from harness.build import Artifact, Builder, ExtensionSpec, diagnostics
from harness.build.fast import preparation, stages
from harness.build.fast.preparation import Preparation
from harness.devices import cxx, nvcc
from harness.records import Route
from harness.settings import Settings
from harness.supervisor import ForkServer

NEEDS_CXX = pytest.mark.skipif(shutil.which(cxx()) is None, reason="there is no C++ compiler")
NEEDS_NVCC = pytest.mark.skipif(nvcc() is None, reason="there is no nvcc")

RIGHT = """#warning said of line one
std::vector<torch::Tensor> relu(torch::Tensor x, std::optional<double> slope) {
  auto y = torch::empty(x.sizes(), x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "relu", [&] {
    const auto* from = x.data_ptr<scalar_t>();
    auto* to = y.data_ptr<scalar_t>();
    for (int64_t i = 0; i < x.numel(); ++i) {
      to[i] = from[i] > 0 ? from[i] : scalar_t(slope.value_or(0.0)) * std::exp(from[i]);
    }
  });
  return {y, at::sum(y), torch::softmax(y, -1), x.mul(2) + y, torch::arange(4, x.options())};
}
"""
WRONG = """torch::Tensor relu(torch::Tensor x) {
  return undeclared(x);
}
"""
LACKING = """torch::Tensor relu(torch::Tensor x) {
  return torch::nn::functional::relu(x);
}
"""
LOAD = """
import hashlib, importlib.machinery, importlib.util, json, sys
import torch
loader = importlib.machinery.ExtensionFileLoader("twin", sys.argv[1])
spec = importlib.util.spec_from_file_location("twin", sys.argv[1], loader=loader)
twin = importlib.util.module_from_spec(spec)
loader.exec_module(twin)
torch.manual_seed(0)
made = twin.relu(torch.randn(64, 33), 0.25) + twin.relu(torch.randn(7, dtype=torch.float64), None)
print(json.dumps([hashlib.sha256(t.numpy().tobytes()).hexdigest() for t in made]))
"""


def spec_of(text: str) -> ExtensionSpec:
    return ExtensionSpec(
        kind="inline", name="twin", cpp_sources=(text,), functions=(("relu", "relu"),)
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def ways(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[Route, Builder]:
    """A builder for each way, with stores that are empty and this installation's preparation."""
    return {
        route: Builder(
            server,
            Settings(cache_dir=tmp_path_factory.mktemp(route), fast_builds=route is Route.FAST),
            architectures="9.0",
        )
        for route in (Route.FAST, Route.STOCK)
    }


@pytest.fixture(scope="module")
def twins(ways: dict[Route, Builder]) -> dict[Route, Artifact]:
    """One extension, built both ways."""
    made = {route: builder.build(spec_of(RIGHT)) for route, builder in ways.items()}
    for route, artifact in made.items():
        assert artifact.succeeded, artifact.log
        assert artifact.route is route, artifact.reason
    return made


@pytest.fixture(scope="module")
def libraries(
    twins: dict[Route, Artifact],
    ways: dict[Route, Builder],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[Route, Path]:
    folder = tmp_path_factory.mktemp("libraries")
    for route, artifact in twins.items():
        store = ways[route].store
        with open(store.open(artifact), "rb") as built, (folder / f"{route}.so").open("wb") as copy:
            shutil.copyfileobj(built, copy)
    return {route: folder / f"{route}.so" for route in twins}


# What comes out


@NEEDS_CXX
@pytest.mark.timeout(600)
def test_a_fast_build_exports_the_symbols_of_a_stock_build(libraries: dict[Route, Path]) -> None:
    def exported(library: Path) -> set[str]:
        command = ["nm", "-D", "--defined-only", str(library)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [row.split() for row in said.splitlines()]
        # Inline functions of headers are weak, and each build keeps those that it uses.
        return {name for *_, kind, name in rows if kind in "TDBR"}

    assert exported(libraries[Route.FAST]) == exported(libraries[Route.STOCK])
    assert "PyInit_twin" in exported(libraries[Route.FAST])


@NEEDS_CXX
@pytest.mark.timeout(600)
def test_a_fast_build_computes_the_very_bits_of_a_stock_build(
    libraries: dict[Route, Path],
) -> None:
    fast, stock = (json.loads(children.run(LOAD, libraries[r])) for r in (Route.FAST, Route.STOCK))
    assert fast == stock
    assert len(fast) == 10


@NEEDS_CXX
@pytest.mark.timeout(600)
def test_warnings_keep_their_lines_and_nothing_shows_what_was_prepared(
    twins: dict[Route, Artifact],
) -> None:
    def warnings(log: str) -> list[str]:
        return [row.rsplit("/", 1)[-1] for row in log.splitlines() if "warning: " in row]

    assert warnings(twins[Route.FAST].log) == warnings(twins[Route.STOCK].log)
    assert warnings(twins[Route.FAST].log)[0].startswith("main.cpp:2:2: warning: #warning said")
    assert str(Settings().prepared_dir) not in twins[Route.FAST].log


# What cannot be built fast


@pytest.mark.exhaustive
@NEEDS_CXX
@pytest.mark.timeout(600)
def test_a_compile_error_reads_as_stock_says_it(ways: dict[Route, Builder]) -> None:
    spec = spec_of(WRONG)
    artifact = ways[Route.FAST].build(spec)
    assert not artifact.succeeded
    assert artifact.route is Route.STOCK
    assert artifact.reason.startswith("the fast build said main.cpp:3: ‘undeclared’ was not")
    assert str(Settings().prepared_dir) not in artifact.log
    (found,) = diagnostics.findings(spec, artifact.log, WRONG)
    assert found.place is not None
    assert found.place.line == 2


@pytest.mark.exhaustive
@NEEDS_CXX
@pytest.mark.timeout(600)
def test_a_header_that_the_fast_path_lacks_is_built_the_stock_way(
    ways: dict[Route, Builder],
) -> None:
    artifact = ways[Route.FAST].build(spec_of(LACKING))
    assert artifact.succeeded, artifact.log
    assert artifact.route is Route.STOCK
    assert artifact.reason == "main.cpp names torch::nn"


def test_what_cannot_be_prepared_is_no_fault(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Preparation, "folders", fail)
    builder = Builder(server, Settings(cache_dir=tmp_path), architectures="9.0")
    assert builder._prepare(spec_of(RIGHT)) is None
    assert builder._no_fast == "nothing could be prepared: no space left"


# What is prepared


def test_another_compiler_or_architecture_prepares_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Preparation(tmp_path, "9.0").key
    assert Preparation(tmp_path, "8.0").key != here
    other = tmp_path / "other-c++"
    other.write_text("#!/bin/sh\necho other 1.0\n")
    other.chmod(0o755)
    monkeypatch.setenv("CXX", str(other))
    preparation._key.cache_clear()
    try:
        assert Preparation(tmp_path, "9.0").key != here
    finally:
        preparation._key.cache_clear()


def test_a_compiler_that_refuses_makes_the_preparation_unusable_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("an exotic compiler")

    monkeypatch.setattr(preparation, "_cpp", refuse)
    prepared = Preparation(tmp_path, "9.0")
    prepared._kind("cpp", (), tmp_path)
    assert {k: v.unusable for k, v in prepared.found().items()} == {"cpp": "an exotic compiler"}


# nvcc's own steps

KERNEL = """__global__ void twice(float* x) { x[threadIdx.x] *= 2.0f; }
void launch(float* x) { twice<<<1, 32>>>(x); }
"""


@NEEDS_NVCC
def test_this_nvcc_s_steps_are_known_and_make_the_object_that_nvcc_makes(tmp_path: Path) -> None:
    (tmp_path / "unit.cu").write_text(KERNEL)
    (tmp_path / "steps").mkdir()
    architecture = "-gencode=arch=compute_90,code=sm_90"
    command = [str(nvcc()), architecture, "-c", "unit.cu", "-o"]
    found = stages.stages([*command, "taken.o"], "steps", tmp_path)
    assert found is not None
    (tmp_path / found.module_id).write_text(stages.module_name("unit.cu"))
    for words in (
        found.device_source,
        found.device,
        found.assemble,
        found.pack,
        found.split_source,
        found.split,
        found.compile,
    ):
        subprocess.run(words, cwd=tmp_path, env=dict(found.environment), check=True)
    subprocess.run([*command, "whole.o"], cwd=tmp_path, check=True)

    def names(path: str) -> list[str]:
        said = subprocess.run(
            ["nm", "-P", "-g", path], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return sorted(" ".join(row.split()[:2]) for row in said.stdout.splitlines())

    assert names("taken.o") == names("whole.o")
    assert any("launch" in name for name in names("taken.o"))


@NEEDS_NVCC
def test_device_code_that_is_linked_later_is_left_to_nvcc(tmp_path: Path) -> None:
    (tmp_path / "unit.cu").write_text(KERNEL)
    (tmp_path / "steps").mkdir()
    command = [str(nvcc()), "-arch=sm_90", "-rdc=true", "-c", "unit.cu", "-o", "unit.o"]
    assert stages.stages(command, "steps", tmp_path) is None
