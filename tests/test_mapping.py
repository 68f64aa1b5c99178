"""Which problem a generation answers: the rules in their order, and never a wrong guess."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ManifestError, ProblemError
from harness.mapping import problem_of, read_manifest, tasks

PROBLEM = "class Model: ...\ndef get_inputs(): ...\ndef get_init_inputs(): ...\n"
words = st.text("abcxyz_-. ", min_size=1, max_size=8).filter(lambda w: w.strip(". ") == w)


def put(folder: Path, *names: str, text: str = PROBLEM) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def manifest(folder: Path, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    put(folder, "manifest.json", text=text)


def mapped(
    folder: Path, problems: Path | None = None, problem: str | None = None
) -> dict[str, str]:
    return {t.name: t.problem.name for t in tasks(folder, problem, problems)}


# ---- the rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["md", "txt", "py"])
@pytest.mark.parametrize(
    "stem",
    [
        "relu__1",
        "relu",
        "relu__",
        "relu__a__b",
        "relu/answer_3",
        "runs/relu/7/answer",
        "relu/softly",
    ],
)
def test_names_and_folders_tell_the_problem(stem: str, suffix: str, tmp_path: Path) -> None:
    name = f"{stem}.{suffix}"
    assert mapped(put(tmp_path, name)) == {name: "relu"}


def test_the_manifest_comes_before_every_name(tmp_path: Path) -> None:
    put(tmp_path, "relu__1.md", "softmax/a.md", "b.md")
    names = {"relu__1.md": "matmul", "softmax/a.md": "conv2d", "b.md": "relu"}
    manifest(tmp_path, {"files": {n: {"problem": p} for n, p in names.items()}})
    assert mapped(tmp_path) == names


def test_a_problem_that_is_given_comes_before_everything(tmp_path: Path) -> None:
    put(tmp_path, "relu__1.md", "b.md")
    manifest(tmp_path, {"files": {"b.md": {"problem": "softmax"}}})
    assert set(mapped(tmp_path, problem="matmul").values()) == {"matmul"}


def test_a_file_s_name_comes_before_its_folders_and_the_nearest_folder_first(
    tmp_path: Path,
) -> None:
    put(tmp_path, "relu/softmax__1.md", "relu/matmul/1.md")
    assert mapped(tmp_path) == {"relu/softmax__1.md": "softmax", "relu/matmul/1.md": "matmul"}


def test_what_the_manifest_expects_is_handed_on(tmp_path: Path) -> None:
    put(tmp_path, "relu__1.md", "relu__2.md")
    manifest(tmp_path, {"files": {"relu__1.md": {"expected": {"cuda": "passed"}}}})
    assert [t.expected for t in tasks(tmp_path)] == [{"cuda": "passed"}, {}]


def test_tasks_come_in_the_order_of_their_names_and_name_only_generations(tmp_path: Path) -> None:
    put(tmp_path, "relu/b.md", "relu/a.txt", "relu__2.py", "notes.json", "relu/image.png")
    manifest(tmp_path, {"files": {}})
    found = tasks(tmp_path)
    assert [t.name for t in found] == ["relu/a.txt", "relu/b.md", "relu__2.py"]
    assert all(t.path == tmp_path / t.name for t in found)


# ---- KernelBench's names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["level_1_problem_56_sample_0_kernel.py", "level1_problem56_sample12.md"]
)
@pytest.mark.parametrize("folder", ["level1", "level_1", "KernelBench-1", "some/level01"])
def test_kernelbench_s_numbers_tell_level_and_problem(
    name: str, folder: str, tmp_path: Path
) -> None:
    problems = put(
        tmp_path / "problems0",
        f"{folder}/56_right.py",
        "level2/56_other_level.py",
        "level11/56_level_that_ends_alike.py",
        f"{folder}/5_shorter.py",
        f"{folder}/156_longer.py",
        f"{folder}/567_longer.py",
    )
    assert mapped(put(tmp_path / "answers", name), problems) == {name: "56_right"}


def test_problems_without_folders_are_told_by_their_number(tmp_path: Path) -> None:
    problems = put(tmp_path / "problems7", "056_right.py", "5_other.py")
    name = "level_1_problem_56_sample_0.md"
    assert mapped(put(tmp_path / "answers", name), problems) == {name: "056_right"}


@pytest.mark.parametrize(
    "held", [["level1/56_x.py"], ["a/56_x.py", "b/56_y.py"], ["level1/5_x.py"]]
)
def test_a_problem_of_another_level_or_of_two_places_is_no_answer(
    held: list[str], tmp_path: Path
) -> None:
    problems = put(tmp_path / "problems", *held)
    put(tmp_path / "answers", "level_2_problem_56_sample_0_kernel.py")
    with pytest.raises(ManifestError, match="level_2_problem_56_sample_0_kernel"):
        tasks(tmp_path / "answers", None, problems)


def test_a_directory_that_is_itself_a_level_holds_that_level_only(tmp_path: Path) -> None:
    problems = put(tmp_path / "level1", "56_x.py")
    one, two = "level_1_problem_56_sample_0.md", "level_2_problem_56_sample_0.md"
    put(tmp_path, one, two)
    assert problem_of(tmp_path / one, problems).name == "56_x"
    with pytest.raises(ManifestError):
        problem_of(tmp_path / two, problems)


def test_a_number_that_no_problem_has_leaves_it_to_the_folder(tmp_path: Path) -> None:
    name = "relu/level_1_problem_19_sample_0.md"
    assert mapped(put(tmp_path, name)) == {name: "relu"}


# ---- what cannot be told -----------------------------------------------------------------------


@given(words)
def test_a_name_that_is_no_problem_s_is_never_mapped(word: str) -> None:
    with tempfile.TemporaryDirectory(prefix="unmapped") as folder:
        put(Path(folder), f"{word}.md")
        with pytest.raises(ManifestError, match="--problem"):
            tasks(Path(folder))


def test_the_first_lost_files_are_named_and_the_others_counted(tmp_path: Path) -> None:
    put(tmp_path, *(f"lost{i}.md" for i in range(8)), "relu__1.md")
    with pytest.raises(ManifestError, match=r"lost0.md.*lost4.md and 3 more") as caught:
        tasks(tmp_path)
    assert "relu__1" not in str(caught.value).split(";")[0]


def test_a_directory_without_generations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no generations"):
        tasks(put(tmp_path, "notes.json"))
    with pytest.raises(ManifestError, match="no such directory"):
        tasks(tmp_path / "missing")


def test_a_problem_that_does_not_exist_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.md")
    manifest(tmp_path, {"files": {"a.md": {"problem": "nonsense"}}})
    with pytest.raises(ProblemError, match="nonsense"):
        tasks(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": 3}',
        '{"files": {"a.md": "relu"}}',
        '{"files": {"a.md": null}}',
        '{"files": {"a.md": {"problem": 5}}}',
        '{"files": {"a.md": {"problem": "relu", "expected": "passed"}}}',
        '{"files": {"a.md": {"problem": "relu", "expected": 1}}}',
    ],
)
def test_a_broken_manifest_is_refused_with_what_one_looks_like(
    content: str, tmp_path: Path
) -> None:
    put(tmp_path, "a.md")
    manifest(tmp_path, content)
    for ask in (lambda: tasks(tmp_path), lambda: problem_of(tmp_path / "a.md")):
        with pytest.raises(ManifestError, match="a manifest is"):
            ask()


def test_there_need_not_be_a_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) == {}


# ---- one file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu__1.md", "relu/1.md", "relu.py"])
def test_a_single_file_follows_the_rules_of_a_directory(name: str, tmp_path: Path) -> None:
    put(tmp_path, name)
    assert problem_of(tmp_path / name).name == mapped(tmp_path)[name] == "relu"


def test_a_single_file_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"answer\.md.*--problem"):
        problem_of(put(tmp_path, "answer.md") / "answer.md")
