"""The launch census: whoever launches a kernel, by whatever way, is counted by the kernel's file.

The processes, the loader and the library are real; the driver below them has no device. What the
census sees of PyTorch and of vendor libraries is judged on a GPU, by the gallery.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.launches import prepare

HERE = Path(__file__).resolve().parent
IMAGE = """
extern "C" {
char image[64] = "code of a kernel";
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   void*, void**, void**);
int launch_linked(void* kernel) {
  return cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
}
}
"""
WAYS = ("dlsym", "asked", "linked", "graph")

Run = Callable[..., dict[str, Any]]


def compiled(source: Path, out: Path, *flags: str) -> Path:
    command = [os.environ.get("CXX", "c++"), "-shared", "-fPIC", str(source), "-o", str(out)]
    subprocess.run([*command, *flags], check=True)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a process that does what it is told, and gives back what was noted."""
    folder = tmp_path_factory.mktemp("launches")
    library = prepare(folder / "prepared")
    name = "-Wl,-soname,libcuda.so.1"
    driver = compiled(HERE / "driver.cpp", folder / "libcuda.so.1", name)
    (folder / "image.cpp").write_text(IMAGE)
    mine, theirs = folder / "mine", folder / "theirs"
    for place in (mine, theirs):
        place.mkdir()
    first = compiled(folder / "image.cpp", mine / "extension.so", str(driver))
    second = theirs / "libcublas.so.13"
    shutil.copy(first, second)

    def told(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, str(HERE / "process.py"), str(driver), str(first), str(second)],
            input="\n".join(words),
            env=os.environ | {"LD_PRELOAD": str(library), "LD_LIBRARY_PATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return told


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_launch_is_counted_by_the_file_of_the_kernel(run: Run, way: str) -> None:
    found = run("count", *[f"{way} mine"] * 3, *[f"{way} theirs"] * 2)
    assert found["reached"] == 5
    counts = {Path(row["origin"]).name: (row["count"], row["own"]) for row in found["rows"]}
    assert counts == {"extension.so": (3, True), "libcublas.so.13": (2, False)}
    assert {row["kernel"] for row in found["rows"]} == {"kernel"}


@pytest.mark.parametrize("way", WAYS)
def test_own_launches_are_left_out_on_request_and_no_others(run: Run, way: str) -> None:
    found = run("without_own", *[f"{way} mine"] * 3, *[f"{way} theirs"] * 2)
    assert found["reached"] == 2
    left_out = {row["own"]: (row["count"], row["left_out"]) for row in found["rows"]}
    assert left_out == {True: (0, 3), False: (2, 0)}


def test_nothing_is_noted_unless_it_is_asked_for(run: Run) -> None:
    found = run("dlsym mine", "count", "dlsym mine", "ignore", "dlsym mine")
    assert found["reached"] == 3
    assert [row["count"] for row in found["rows"]] == [1]


def test_a_name_that_is_looked_up_after_the_caller_is_found_after_the_caller(
    tmp_path: Path,
) -> None:
    """``dlsym(RTLD_NEXT, …)`` depends on who calls, so the census must not stand in between."""
    source = tmp_path / "next.cpp"
    source.write_text(
        "#include <dlfcn.h>\n"
        'extern "C" int where() { return 1; }\n'
        'extern "C" int next_where() {\n'
        '  auto next = (int (*)())dlsym(RTLD_NEXT, "where");\n'
        "  return next ? next() : 0;\n"
        "}\n"
    )
    (tmp_path / "later.cpp").write_text('extern "C" int where() { return 2; }\n')
    later = compiled(tmp_path / "later.cpp", tmp_path / "later.so")
    sooner = compiled(source, tmp_path / "sooner.so", "-Wl,--no-as-needed", str(later))
    script = f"import ctypes; print(ctypes.CDLL({str(sooner)!r}).next_where())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"LD_PRELOAD": str(prepare(tmp_path / "prepared"))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2"
