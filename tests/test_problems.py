"""Problem files are found by name or path, read without being run, and refused in one sentence."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from pathlib import Path

import children
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ProblemError, UsageError
from harness.problems import ProblemFile, find, listing
from harness.problems.catalogue import REQUIRED

PARTS = {
    "Model": "class Model:\n    pass\n",
    "get_inputs": "def get_inputs():\n    return []\n",
    "get_init_inputs": "def get_init_inputs():\n    return []\n",
}
WHOLE = "".join(PARTS.values())
SHIPPED = ["conv2d", "layer_norm", "matmul", "relu", "softmax"]
subsets = [s for n in range(4) for s in itertools.combinations(REQUIRED, n)]


def write(path: Path, text: str = WHOLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    """The one sentence that refuses a file, which has to name it."""
    with pytest.raises(ProblemError) as caught:
        ProblemFile.read(path)
    assert isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


# ---- the parts of the format -------------------------------------------------------------------


@pytest.mark.parametrize("present", subsets, ids="+".join)
def test_each_part_that_is_missing_is_named_and_no_other(
    present: tuple[str, ...], tmp_path: Path
) -> None:
    path = write(tmp_path / "p.py", "".join(PARTS[part] for part in present))
    missing = [part for part in REQUIRED if part not in present]
    if not missing:
        assert ProblemFile.read(path).name == "p"
        return
    lacking = refusal(path).split("lacks")[1]
    assert all((part in lacking) == (part in missing) for part in REQUIRED)


@pytest.mark.parametrize(
    "text",
    [
        "from other import Model, get_inputs\nfrom another import it as get_init_inputs\n",
        "Model = get_inputs = get_init_inputs = None\n",
        '"""Words."""\n' + WHOLE,
    ],
)
def test_a_part_may_be_defined_in_every_usual_way(text: str, tmp_path: Path) -> None:
    file = ProblemFile.read(write(tmp_path / "p.py", text))
    assert file.summary in ("", "Words.")
    assert file.cases == 0


def test_a_part_within_another_is_not_the_module_s(tmp_path: Path) -> None:
    nested = "class Outer:\n" + "".join(f"    {row}\n" for row in WHOLE.splitlines())
    assert "lacks Model" in refusal(write(tmp_path / "p.py", nested))


@given(st.integers(0, 30))
def test_broken_syntax_is_refused_with_its_line(before: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "p.py", "x = 1\n" * before + "def f(:\n" + WHOLE)
        message = refusal(path)
    assert f"line {before + 1}:" in message
    assert "<unknown>" not in message


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x = '\x80'", b"a\0b"])
def test_what_is_no_text_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_bytes(data)
    refusal(path)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path / "missing.py")
    (tmp_path / "folder.py").mkdir()
    refusal(tmp_path / "folder.py")


def test_nothing_of_a_problem_is_run_when_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "p.py", WHOLE + "raise SystemExit('it was run')\n")
    file = find(str(path))
    assert (file.name, file.cases, file.summary) == ("p", 0, "")
    assert file.source == path.read_text()
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


# ---- what a file declares ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('TF32 = "allowed"\n', "allowed"),
        ('TF32: str = "allowed"\n', "allowed"),
        ('A = TF32 = "allowed"\n', "allowed"),
        ("TF32 = 3\n", "default"),
        ('TF32 = "a" + "b"\n', "default"),
        ("TF32: str\n", "default"),
        ("def f():\n    TF32 = 'inner'\n", "default"),
        ("", "default"),
    ],
)
def test_declared_constants_are_module_level_strings(text: str, value: str, tmp_path: Path) -> None:
    assert (
        ProblemFile.read(write(tmp_path / "p.py", WHOLE + text)).declared("TF32", "default")
        == value
    )


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("CASES = {'a': ([], [(1,)]), 'b': ([], [(2,)])}\n", 2),
        ("CASES: dict[str, tuple] = {'a': ([], [(1,)])}\n", 1),
        ("CASES = {}\n", 0),
        ("CASES = make()\n", 0),
    ],
)
def test_the_cases_are_counted_without_running_the_file(
    text: str, count: int, tmp_path: Path
) -> None:
    assert ProblemFile.read(write(tmp_path / "p.py", WHOLE + text)).cases == count


def test_the_summary_is_the_first_line_that_says_something(tmp_path: Path) -> None:
    of_model = WHOLE.replace("pass", '"""\n    Adds.\n\n    More.\n    """')
    assert ProblemFile.read(write(tmp_path / "a.py", of_model)).summary == "Adds."
    both = '"""Of the module.\n\nMore.\n"""\n' + of_model
    assert ProblemFile.read(write(tmp_path / "b.py", both)).summary == "Of the module."
    assert ProblemFile.read(write(tmp_path / "c.py", '"""   """\n' + WHOLE)).summary == ""


# ---- finding -----------------------------------------------------------------------------------


def test_an_unknown_name_lists_the_names_that_exist(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "level1/1_deep.py", "_helper.py"):
        write(tmp_path / name)
    with pytest.raises(ProblemError, match=r"'nonsense'.*there are: 1_deep, a, b$"):
        find("nonsense", tmp_path)
    with pytest.raises(ProblemError, match=", ".join(SHIPPED)):
        find("nonsense")


def test_every_name_that_is_listed_can_be_found(tmp_path: Path) -> None:
    for name in ("top.py", "level1/1_deep.py", "level2/sub/1_deeper.py", "_helper.py"):
        write(tmp_path / name)
    listed = [f for f in listing(tmp_path) if isinstance(f, ProblemFile)]
    assert {f.name for f in listed} == {"top", "1_deep", "1_deeper"}
    assert [find(f.name, tmp_path) for f in listed] == listed


def test_a_name_that_two_problems_share_is_not_guessed(tmp_path: Path) -> None:
    for name in ("level1/same.py", "level2/same.py"):
        write(tmp_path / name)
    with pytest.raises(ProblemError, match=r"level1.*level2.*give the path"):
        find("same", tmp_path)
    assert find(str(tmp_path / "level2" / "same.py"), tmp_path).path.parent.name == "level2"


@pytest.mark.parametrize("name", ["missing.py", "folder/missing", "../relu", "/nowhere/relu.py"])
def test_a_path_is_never_taken_for_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="no such problem file"):
        find(name, tmp_path)


def test_a_broken_file_is_listed_as_broken_beside_the_others(tmp_path: Path) -> None:
    write(tmp_path / "bad.py", "def (")
    write(tmp_path / "good.py")
    bad, good = listing(tmp_path)
    assert isinstance(bad, ProblemError)
    assert "bad.py, line 1" in str(bad)
    assert isinstance(good, ProblemFile)
    with pytest.raises(ProblemError, match="line 1"):
        find("bad", tmp_path)


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="no such directory"):
        listing(tmp_path / "missing")


def test_the_shipped_problems_are_whole() -> None:
    files = [f for f in listing() if isinstance(f, ProblemFile)]
    assert [f.name for f in files] == SHIPPED
    for file in files:
        assert find(file.name) == file
        assert file.summary
        assert file.cases >= 10
        assert file.declared("TF32", "") in ("allowed", "forbidden")
        assert file.declared("GRADIENTS", "") == "required"
        assert file.declared("CPU_HEADLINE", "") == "cpu_headline"


def test_problems_are_listed_without_torch() -> None:
    program = "import sys; from harness.problems import listing; print(len(listing()))"
    said = children.run(program + "; print('torch' in sys.modules)")
    assert said.split() == [str(len(SHIPPED)), "False"]
