"""An installed wheel works outside the checkout: problems, solutions and prompts travel with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(site: Path, cwd: Path, *arguments: str) -> str:
    """A command of the installed harness, started outside the checkout."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness.cli", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_wheel_brings_its_problems(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(run(installed, tmp_path, "problems", "--json"))["problems"]
    assert {p["name"] for p in listed} == {"conv2d", "relu", "softmax", "matmul", "layer_norm"}
    assert all(Path(p["path"]).is_relative_to(installed) for p in listed)


def test_an_installed_wheel_brings_its_prompts_and_solutions(
    installed: Path, tmp_path: Path
) -> None:
    assert "ModelNew" in run(installed, tmp_path, "prompt", "relu", "--device", "cpu")
    bundled = installed / "harness" / "_bundled" / "solutions"
    assert {p.stem for p in bundled.glob("*.py")} >= {"conv2d", "relu"}


def test_an_installed_wheel_holds_no_tests_and_is_typed(installed: Path) -> None:
    assert not (installed / "tests").exists()
    assert (installed / "harness" / "py.typed").exists()
