"""The shape of the code itself: layers, cheap imports, documented modules, names that exist."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from pathlib import Path

import children
import pytest

import harness

PACKAGE = children.ROOT / "harness"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((children.ROOT / "tests").rglob("*.py"))
LONGEST, LONGEST_TEST = 500, 450
HEAVY = ("torch", "numpy", "pynvml", "jinja2", "tree_sitter")

HELP = """
import sys
sys.argv = ["kernel-harness", *sys.argv[1:], "--help"]
from harness.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", *sorted(sys.modules))
"""


def below(path: Path) -> str:
    return path.relative_to(children.ROOT).as_posix()


def loaded(said: str) -> set[str]:
    return set(said.split("loaded:")[-1].split())


def test_imports_point_down() -> None:
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run(
        [sys.executable, str(command), "--no-cache"],
        cwd=children.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_layer_of_the_contract_is_the_code_s() -> None:
    """A module that no layer names would be free to import anything."""
    text = (children.ROOT / "pyproject.toml").read_text()
    named = {line.strip(' ",').split(".")[1] for line in text.replace(" : ", "\n").splitlines()
             if line.strip(' "').startswith("harness.")}  # fmt: skip
    here = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert here - {"__init__"} == named


def test_importing_the_package_is_cheap() -> None:
    said = children.run("import harness, sys; print('loaded:', *sorted(sys.modules))")
    assert not loaded(said) & {*HEAVY, "pydantic", "typer"}


@pytest.mark.parametrize("command", ["", "grade", "batch", "problems"])
def test_help_does_not_wait_for_torch(command: str) -> None:
    said = children.run(HELP, *command.split())
    assert "Usage" in said
    assert not loaded(said) & {"torch", "numpy"}


@pytest.mark.parametrize(
    "module", ["extract", "records", "report", "prompting", "screening", "mapping", "store", "wire"]
)
def test_what_touches_no_tensor_does_not_import_torch(module: str) -> None:
    said = children.run(f"import harness.{module}, sys; print('loaded:', *sorted(sys.modules))")
    assert "torch" not in loaded(said)


@pytest.mark.parametrize("path", MODULES, ids=below)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text, "a module has a docstring"
    assert text.splitlines()[0].endswith((".", ":", "…")), "its first line is a sentence"


def test_no_file_is_too_long() -> None:
    lengths = {below(p): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}
    lengths = {below(p): len(p.read_text().splitlines()) for p in TESTS}
    assert {name: n for name, n in lengths.items() if n > LONGEST_TEST} == {}


@pytest.mark.parametrize("name", harness.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(harness, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = harness.nonsense
