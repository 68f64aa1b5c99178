"""Bundled files are found in a checkout and in an installed wheel, and never anybody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import resources
from harness.errors import HarnessFault


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "harness"
    folder.mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", folder)
    return folder


def test_this_installation_has_its_prompts() -> None:
    assert (resources.bundled("prompts") / "task.md.j2").is_file()


def test_a_checkout_has_its_files_beside_the_package(package: Path) -> None:
    beside = package.parent / "solutions"
    beside.mkdir()
    assert resources.bundled("solutions") == beside


def test_a_wheel_has_its_files_inside_the_package(package: Path) -> None:
    inside = package / "_bundled" / "prompts"
    inside.mkdir(parents=True)
    assert resources.bundled("prompts") == inside


def test_a_wheel_ignores_a_folder_of_that_name_in_site_packages(package: Path) -> None:
    (package.parent / "prompts").mkdir()
    inside = package / "_bundled" / "prompts"
    inside.mkdir(parents=True)
    assert resources.bundled("prompts") == inside


def test_a_broken_installation_is_our_fault_and_says_where_it_looked(package: Path) -> None:
    with pytest.raises(HarnessFault, match="_bundled"):
        resources.bundled("reference_models")


def checkout(folder: Path) -> Path:
    """A checkout of the project, as far as that shows."""
    for name in ("harness", "solutions", "reference_models"):
        (folder / name).mkdir(parents=True)
    (folder / "harness" / "forkserver.py").touch()
    return folder


def test_answers_of_every_checkout_from_which_anything_is_imported_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, has_environment = checkout(tmp_path / "one"), checkout(tmp_path / "two")
    site_packages = has_environment / ".venv" / "lib" / "site-packages"
    site_packages.mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", runs / "harness")
    monkeypatch.setattr("sys.path", [str(runs), str(site_packages)])
    folders = [
        c / name for c in (runs, has_environment) for name in ("solutions", "reference_models")
    ]
    assert resources.answers() == sorted(folders)


def test_somebody_elses_folder_of_that_name_is_no_answer_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = checkout(tmp_path / "one")
    (tmp_path / "two" / "solutions").mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", runs / "harness")
    monkeypatch.setattr("sys.path", [str(runs), str(tmp_path / "two")])
    assert tmp_path / "two" / "solutions" not in resources.answers()
