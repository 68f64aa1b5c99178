"""Compilers' messages are read as compilers write them, and found in the candidate's own lines."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.build import ExtensionSpec, units
from harness.build.box import write_sources
from harness.build.diagnostics import (
    CompilerError,
    candidate_line,
    errors,
    findings,
    locate,
    unit_lines,
)
from harness.records import Severity, Stage

COMPILER = shutil.which("c++")
real = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

CPP = """
#include <vector>

int twice(int x) {
    return x * 2;
}
"""
CUDA = """
__global__ void twice(float* x, int n) {
    int i = threadIdx.x;
    if (i < n) {
        x[i] *= 2;
    }
}

__global__ void thrice(float* x, int n) {
    int i = threadIdx.x;
    if (i < n) {
        x[i] *= 3;
    }
}
"""


def spec(**more: Any) -> ExtensionSpec:
    parts: dict[str, Any] = {"kind": "inline", "name": "ext", "cpp_sources": (CPP,)}
    return ExtensionSpec(**parts | {"cuda_sources": (CUDA,)} | more)


def python_file(**sources: str) -> str:
    """A candidate that holds its sources as string literals."""
    texts = "".join(f'\n{name} = """{text}"""\n' for name, text in sources.items())
    return f"import torch\n{texts}\nmodule = load_inline(cpp, cuda)\n"


def row(text: str, part: str, count: int = 1) -> int:
    """The number of the line with the ``count``-th occurrence of ``part`` (0: the last)."""
    rows = [i for i, line in enumerate(text.split("\n"), 1) if part in line]
    return rows[count - 1]


# ---- reading -----------------------------------------------------------------------------------

LOGS = {
    "gcc": (
        "/tmp/k/main.cpp: In function ‘int f()’:\n"
        "/tmp/k/main.cpp:12:5: error: ‘y’ was not declared in this scope\n"
        "   12 |     y = 3;\n      |     ^\n"
        "/tmp/k/main.cpp:14:1: warning: no return statement [-Wreturn-type]\n"
        "/tmp/k/main.cpp:14:1: note: main.cpp:3:1: in an error\n",
        CompilerError("main.cpp", 12, "‘y’ was not declared in this scope"),
    ),
    "gcc, fatal": (
        "main.cpp:1:10: fatal error: nothere.h: No such file or directory\n"
        "    1 | #include <nothere.h>\ncompilation terminated.\n",
        CompilerError("main.cpp", 1, "nothere.h: No such file or directory"),
    ),
    "gcc, no column": ("main.cpp:7: error: stray\n", CompilerError("main.cpp", 7, "stray")),
    "nvcc": (
        '/tmp/k/cuda.cu(9): error: identifier "y" is undefined\n    y = 3;\n    ^\n\n'
        '1 error detected in the compilation of "/tmp/k/cuda.cu".\n',
        CompilerError("cuda.cu", 9, 'identifier "y" is undefined'),
    ),
    "nvcc, numbered": (
        'cuda.cu(19): error #20: identifier "y" is undefined\n'
        'h.cu(1): warning #940-D: missing return statement at end of function "f"\n',
        CompilerError("cuda.cu", 19, 'identifier "y" is undefined'),
    ),
    "nvcc, catastrophic": (
        'cuda.cu(2): catastrophic error: cannot open source file "x.h"\n',
        CompilerError("cuda.cu", 2, 'cannot open source file "x.h"'),
    ),
    "ptxas": (
        "ptxas error   : Entry function '_Z1kPf' uses too much shared data (0x61a80 bytes)\n",
        CompilerError("", 0, "Entry function '_Z1kPf' uses too much shared data (0x61a80 bytes)"),
    ),
    "ptxas, placed": (
        "ptxas /tmp/tmpxft_0-6_h.ptx, line 21; error   : Unknown symbol 'x'\n",
        CompilerError("", 0, "Unknown symbol 'x'"),
    ),
    "ptxas, fatal": (
        "ptxas info    : 0 bytes gmem\nptxas fatal   : Unresolved extern function 'g'\n",
        CompilerError("", 0, "Unresolved extern function 'g'"),
    ),
    "ld, library": (
        "/usr/bin/ld: cannot find -lnothere: No such file or directory\n"
        "collect2: error: ld returned 1 exit status\n",
        CompilerError("", 0, "cannot find -lnothere: No such file or directory"),
    ),
    "ld, twice": (
        "/usr/bin/ld: c.o: in function `f()':\n"
        "c.cpp:(.text+0x0): multiple definition of `f()'; a.o:a.cpp:(.text+0x0): first defined\n"
        "collect2: error: ld returned 1 exit status\n",
        CompilerError("", 0, "multiple definition of `f()'; a.o:a.cpp:(.text+0x0): first defined"),
    ),
    "ld, undefined": (
        "/usr/bin/ld: main.o: in function `f()':\nmain.cpp:(.text._Z1fv+0x5): undefined reference "
        "to `g()'\n",
        CompilerError("", 0, "undefined reference to `g()'"),
    ),
    "ld, in one row": (
        "ld.lld: error: undefined symbol: g()\n",
        CompilerError("", 0, "undefined symbol: g()"),
    ),
}


@pytest.mark.parametrize("name", LOGS)
def test_each_tool_s_error_is_read_and_nothing_else(name: str) -> None:
    log, expected = LOGS[name]
    assert errors(log) == [expected]
    assert errors(log + log) == [expected], "a repetition says nothing new"


def test_errors_of_several_tools_are_read_in_order() -> None:
    log = "ninja: Entering directory\nFAILED: cuda.cuda.o\nnvcc -c cuda.cu\n"
    assert errors(log + "".join(text for text, _ in LOGS.values())) == [e for _, e in LOGS.values()]


@given(st.text())
def test_whatever_is_printed_there_is_a_reason_that_can_be_recorded(log: str) -> None:
    found = findings(spec(), log, "candidate")
    assert found
    assert all(f.stage is Stage.BUILD for f in found)
    assert found[0].severity is Severity.ERROR


@pytest.mark.parametrize(
    "log",
    [
        "main.cpp:3: error: \n",
        "main.cpp:0: error: x\n",
        f"main.cpp:{'9' * 5000}: error: x\n",
        f"main.cpp({'9' * 5000}): error: x\n",
        "main.cpp:٣: error: x\n",
        "main.cpp:3: error: " + "x" * 10_000,
        "ptxas fatal : \n",
    ],
    ids=lambda log: log[:24],
)
def test_a_candidate_cannot_print_what_breaks_the_reading(log: str) -> None:
    assert findings(spec(), log, python_file(cpp=CPP, cuda=CUDA))[0].message


@pytest.mark.parametrize("word", ["ld: ", "a:(b): ", "ptxas error ", "collect2: ", "a(1): error "])
def test_long_rows_are_read_in_little_time(word: str) -> None:
    begun = time.perf_counter()
    errors((word * 60_000)[:250_000])
    errors("\n".join([(word * 1000)[:4000]] * 60))
    assert time.perf_counter() - begun < 3


# ---- placing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("part", ["#include", "int twice", "x * 2"])
def test_a_line_of_the_cpp_source_is_the_candidate_s(part: str, implicit: bool) -> None:
    one = spec(no_implicit_headers=not implicit)
    text = python_file(cpp=CPP, cuda=CUDA)
    at = row("\n".join(unit_lines(one, "main.cpp")), part)
    assert candidate_line(one, CompilerError("main.cpp", at, "x"), text) == row(text, part)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("part", ["int i = threadIdx.x;", "if (i < n) {"])
def test_of_repeated_lines_the_right_one_is_found(part: str, count: int) -> None:
    text = python_file(cpp=CPP, cuda=CUDA)
    at = row("\n".join(unit_lines(spec(), "cuda.cu")), part, count)
    found = candidate_line(spec(), CompilerError("cuda.cu", at, "x"), text)
    assert found == row(text, part, count)


def test_a_brace_that_stands_everywhere_is_found_by_its_neighbours() -> None:
    text = python_file(cpp=CPP, cuda=CUDA)
    unit, rows = unit_lines(spec(), "cuda.cu"), text.split("\n")
    start = row(text, "__global__ void twice")
    for offset in range(13):
        at = unit.index("__global__ void twice(float* x, int n) {") + 1 + offset
        if unit[at - 1].strip():
            found = candidate_line(spec(), CompilerError("cuda.cu", at, "x"), text)
            assert found == start + offset, rows[start + offset - 1]


def test_a_line_that_shares_its_row_with_the_quotes_is_found() -> None:
    cpp, cuda = "#include <a.h>\nint f();", "\n#include <a.h>\nint g() { return 1; }\n"
    text = python_file(cpp=cpp, cuda=cuda)
    one = spec(cpp_sources=(cpp,), cuda_sources=(cuda,), no_implicit_headers=True)
    assert candidate_line(one, CompilerError("main.cpp", 1, "x"), text) == row(text, 'cpp = """')
    assert candidate_line(one, CompilerError("main.cpp", 2, "x"), text) == row(text, "int f();")
    assert candidate_line(one, CompilerError("cuda.cu", 2, "x"), text) == row(text, "#inc", 2)


def test_an_indented_string_is_found_although_it_was_dedented() -> None:
    indented = "\n".join("        " + line for line in CPP.split("\n"))
    at = row("\n".join(unit_lines(spec(), "main.cpp")), "x * 2")
    text = python_file(cpp=indented)
    assert candidate_line(spec(), CompilerError("main.cpp", at, "x"), text) == row(text, "x * 2")


@pytest.mark.parametrize("odd", ["\f", "\v", "\x1c", "\u2028", "\x85"])
def test_only_newlines_count_as_ends_of_lines(odd: str) -> None:
    cpp = f"// a page{odd}of old\nint broken = x;\n"
    one = spec(cpp_sources=(cpp,))
    assert unit_lines(one, "main.cpp")[2] == "int broken = x;"
    text = python_file(other=f"words {odd} of others", cpp=cpp)
    assert candidate_line(one, CompilerError("main.cpp", 3, "x"), text) == row(text, "int broken")


@pytest.mark.parametrize("file", ["main.cpp", "cuda.cu", "torch.h", ""])
@pytest.mark.parametrize("line", [0, 1, 10_000])
def test_a_line_of_the_harness_or_of_nobody_has_no_place(file: str, line: int) -> None:
    text = python_file(cpp=CPP, cuda=CUDA)
    assert candidate_line(spec(), CompilerError(file, line, "x"), text) is None


def test_a_line_that_is_not_in_the_candidate_has_no_place() -> None:
    made = "".join(f"int f{i}() {{ return y; }}\n" for i in range(5))
    text = 'cpp = "".join(f"int f{i}() {{ return y; }}\\n" for i in range(5))\n'
    for line in range(1, 8):
        found = candidate_line(
            spec(cpp_sources=(made,)), CompilerError("main.cpp", line, "x"), text
        )
        assert found is None


def test_of_two_places_that_look_alike_none_is_guessed() -> None:
    text = python_file(draft=CPP, cpp=CPP)
    at = row("\n".join(unit_lines(spec(), "main.cpp")), "x * 2")
    assert candidate_line(spec(), CompilerError("main.cpp", at, "x"), text) is None


def test_a_candidate_that_is_all_alike_is_searched_in_little_time() -> None:
    text = "}\n" * 200_000
    begun = time.perf_counter()
    assert (
        candidate_line(spec(cpp_sources=(text,)), CompilerError("main.cpp", 9, "x"), text) is None
    )
    unit = ["}"] * 900
    assert locate(unit, 450, unit) is None
    assert time.perf_counter() - begun < 3


def test_a_file_s_own_lines_are_placed_by_its_name() -> None:
    files = (("a.cpp", CPP), ("b.cu", CUDA))
    one = ExtensionSpec(kind="files", name="e", files=files)
    text = python_file(a=CPP, b=CUDA)
    at = row(CUDA, "*= 3")
    assert candidate_line(one, CompilerError("b.cu", at, "x"), text) == row(text, "*= 3")
    assert candidate_line(one, CompilerError("c.cu", at, "x"), text) is None


source_lines = st.lists(st.sampled_from(["int a;", "", "  }", "// words", "\tb();"]), max_size=6)


@given(st.lists(source_lines.map("\n".join), max_size=3), st.lists(source_lines.map("\n".join)))
@settings(max_examples=30)
def test_units_are_read_as_they_are_written(cpp: list[str], cuda: list[str]) -> None:
    for implicit in (True, False):
        one = spec(cpp_sources=cpp, cuda_sources=cuda, no_implicit_headers=not implicit)
        with tempfile.TemporaryDirectory() as folder:
            for path, unit in zip(write_sources(one, Path(folder)), units.of(one), strict=True):
                prefix = unit.implicit
                written = Path(path).read_text().split("\n")
                expected = unit_lines(one, Path(path).name)[len(prefix) :]
                assert written[len(prefix) :][: len(expected)] == expected or expected == [""]


# ---- findings ----------------------------------------------------------------------------------


def test_a_finding_names_the_place_and_what_to_do() -> None:
    text = python_file(cpp=CPP, cuda=CUDA)
    at = row("\n".join(unit_lines(spec(), "main.cpp")), "x * 2")
    (found,) = findings(spec(), f"main.cpp:{at}:1: error: ‘z’ was not declared in this scope", text)
    assert found.place is not None
    assert found.place.line == row(text, "x * 2")
    assert found.rule == "build.compiler"
    assert found.advice.startswith("Declare z ")


def test_many_errors_are_cut_short_and_counted() -> None:
    log = "\n".join(f"main.cpp:{i}:1: error: number {i}" for i in range(1, 21))
    *shown, more = findings(spec(), log, "")
    assert [f.message for f in shown] == [f"main.cpp:{i}: number {i}" for i in range(1, 9)]
    assert (more.severity, more.message.split()[0]) == (Severity.NOTE, "12")


# ---- the real compiler -------------------------------------------------------------------------


def compiled(folder: Path, one: ExtensionSpec, *, link: bool = False) -> str:
    """What the C++ compiler says of a spec's translation units."""
    units = [Path(p).name for p in write_sources(one, folder)]
    command = [str(COMPILER), *(["-shared", "-fPIC"] if link else ["-c"]), *units]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr


@real
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("return x * 2;", "return y * 2;"),
        ("return x * 2;", "return x * 2"),
        ("int twice(int x) {", "int twice(int x {"),
        ("<vector>", "<nothere.h>"),
        ("return x * 2;", "static_assert(false);"),
        ("return x * 2;", "#error no words"),
    ],
)
def test_a_real_error_is_found_in_the_candidate(good: str, bad: str, tmp_path: Path) -> None:
    cpp = CPP.replace(good, bad)
    one = spec(cpp_sources=(cpp,), cuda_sources=(), no_implicit_headers=True)
    text = python_file(draft=CPP, cpp=cpp)
    found = findings(one, compiled(tmp_path, one), text)
    assert found[0].place is not None
    assert found[0].place.line == row(text, bad, 0)


@real
def test_a_real_linker_s_error_is_read(tmp_path: Path) -> None:
    files = (("a.cpp", "int f() { return 1; }\n"), ("b.cpp", "int f() { return 2; }\n"))
    one = ExtensionSpec(kind="files", name="e", files=files)
    (found,) = findings(one, compiled(tmp_path, one, link=True), "")
    assert found.rule == "build.linker"
    assert "multiple definition of `f()'" in found.message
    assert found.advice
