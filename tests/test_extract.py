"""Extraction: the one final block is found, drafts do not count, and nothing raises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.extract import Extraction, extract
from harness.records import Severity

REAL_ANSWER = Path(__file__).parent / "data" / "real_answer_conv2d.txt"
CODE = "import torch\n\n\nclass ModelNew(torch.nn.Module):\n    pass\n"
DRAFT = CODE.replace("pass", "draft = True")
USAGE = "model = ModelNew()\nimport torch\nprint(model(torch.ones(1)))\n"


def fenced(code: str, label: str = "python", ticks: str = "```") -> str:
    return f"{ticks}{label}\n{code}{ticks}\n"


def rules(extraction: Extraction) -> list[str]:
    return [finding.rule for finding in extraction.findings]


def assert_place(text: str, extraction: Extraction) -> None:
    """The first line of the candidate is the line of the raw text that is claimed."""
    assert extraction.candidate is not None
    raw = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = extraction.candidate.split("\n")[0]
    assert raw[extraction.first_line - 1].lstrip(" \t>").lstrip("\ufeff").endswith(first)


FOUND = {
    "a plain file": CODE,
    "one fence": f"Here it is.\n\n{fenced(CODE)}\nDone.\n",
    "no label": fenced(CODE, ""),
    "an upper-case label": fenced(CODE, "Python"),
    "a label with attributes": fenced(CODE, 'python title="x"'),
    "tildes": fenced(CODE, ticks="~~~"),
    "four ticks": fenced(CODE, ticks="````"),
    "wrongly labelled": fenced(CODE, "cpp"),
    "no space after prose": f"The code:\n{fenced(CODE)}",
    "after reasoning": f"<think>\nhm\n</think>\n\n{fenced(CODE)}",
    "after reasoning without an opening tag": f"hm\n{fenced(DRAFT)}\n</think>\n{fenced(CODE)}",
    "after a draft": f"<think>\n{fenced(DRAFT)}</think>\n{fenced(CODE)}",
    "after an unclosed draft": f"<think>\n```python\n{DRAFT}\n</think>\n\n{fenced(CODE)}",
    "after <thinking>": f"<thinking>\n{fenced(DRAFT)}</thinking>\n{fenced(CODE)}",
    "after <reasoning>": f"<reasoning>{fenced(DRAFT)}</reasoning>\n{fenced(CODE)}",
    "tag and fence on one line": f"hm</think>{fenced(CODE)}",
    "two reasoning sections": f"<think>a</think>\n<think>\n{fenced(DRAFT)}</think>\n{fenced(CODE)}",
    "a stray closing tag at the end": f"<think>a</think>\n{fenced(CODE)}\n</think>\n",
    "a tag that is talked about": f"I close with `</think>` first.\n\n{fenced(CODE)}",
    "unfenced after reasoning": f"hm\n</think>\n\n{CODE}",
    "the last of two": fenced(DRAFT) + "\nBetter:\n\n" + fenced(CODE),
    "before a usage example": fenced(CODE) + "\nUse it so:\n\n" + fenced(USAGE),
    "before a shell block": fenced(CODE) + "\n" + fenced("pip install torch\n", "bash"),
    "after a C++ block": fenced("#include <a>\nint x;\n", "cpp") + "\n" + fenced(CODE),
    "in a list item": "1. The code:\n\n"
    + "".join(f"   {line}\n" for line in fenced(CODE).splitlines()),
    "deep in a list": "- a\n\n  - b\n\n"
    + "".join(f"      {line}\n" for line in fenced(CODE).splitlines()),
    "quoted": "".join(f"> {line}\n" for line in fenced(CODE).splitlines()),
    "CRLF": fenced(CODE).replace("\n", "\r\n"),
    "lone CR": ("x\n" + fenced(CODE)).replace("\n", "\r"),
    "a byte order mark": "\ufeff" + CODE,
    "never closed": "```python\n" + CODE,
}


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND)
def test_the_final_block_is_found_where_it_stands(text: str) -> None:
    found = extract(text)
    assert found.candidate is not None, found.explanation
    assert found.candidate.rstrip("\n").replace("\n\n\n", "\n\n") == CODE.rstrip("\n").replace(
        "\n\n\n", "\n\n"
    )
    assert_place(text, found)
    assert not any(f.severity is Severity.ERROR for f in found.findings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("I cannot do that.", "prose"),
        ("\x00\x01\x02\x03" * 20, "not readable"),
        (fenced("int main() { return 0; }\n", "cpp"), "none of them holds Python"),
        (fenced("pip install torch\n", "bash"), "none of them holds Python"),
        (fenced('{"class": 1}\n', "json"), "none of them holds Python"),
        (fenced('{"class": 1}\n', ""), "none of them holds Python"),
        ("<think>\nhm\n</think>\n", "Nothing follows"),
        (f"<think>\n{fenced(CODE)}\n", "opened on line 1 is never closed"),
        (f"a\n<think>\n\n{fenced(CODE)}\n</think>\nSorry.\n", "stands at line 8"),
        (f"{fenced(CODE)}\n</think>\nSorry.\n", "inside the reasoning"),
        ("# Answer\n\nclass of 99\nimport duties apply.\n", "prose"),
    ],
)
def test_without_a_final_block_there_is_no_code_and_a_reason(text: str, words: str) -> None:
    found = extract(text)
    assert found.candidate is None
    assert words in found.explanation
    assert rules(found) == ["extract.no_code"]
    assert found.findings[0].severity is Severity.ERROR


def test_a_model_new_in_a_draft_does_not_count() -> None:
    found = extract(f"hm\n{fenced(CODE)}\n</think>\n{fenced('import torch')}")
    assert found.candidate is not None
    assert "ModelNew" not in found.candidate
    assert rules(found)[0] == "extract.no_model_new"
    assert "line 6" in found.findings[0].message


@pytest.mark.parametrize(
    "line",
    [
        's = "</think>"',
        "# </think>",
        's = """\n</think>\n"""',
        's = """\n<think>\n"""',
        "x = 1  # <think> and </think>",
    ],
)
@pytest.mark.parametrize("before", ["", "<think>\nhm\n</think>\n"])
def test_a_reasoning_tag_inside_the_code_does_not_cut_it(before: str, line: str) -> None:
    code = f"{CODE}\n{line}\n"
    found = extract(before + fenced(code))
    assert found.candidate == code
    assert extract(code).candidate == code


def test_a_tag_in_a_comment_of_broken_code_does_not_cut_it() -> None:
    code = f"{CODE}\nx = = 1  # </think>\n"
    assert extract(fenced(code)).candidate == code


def test_a_fence_inside_a_docstring_does_not_end_the_code() -> None:
    code = f'{CODE}    """Use:\n\n```\nModelNew()\n```\n    """\n'.replace("pass\n", "pass\n\n")
    found = extract("Here:\n\n" + fenced(code) + "\nThat is all.\n")
    assert found.candidate == code
    assert rules(found) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (FOUND["never closed"], "extract.unclosed_fence"),
        (FOUND["wrongly labelled"], "extract.wrong_label"),
        (FOUND["the last of two"], "extract.several_blocks"),
        (FOUND["before a usage example"], "extract.other_blocks"),
        (FOUND["unfenced after reasoning"], "extract.no_fence"),
        (fenced(USAGE), "extract.no_model_new"),
    ],
)
def test_what_is_odd_about_an_answer_is_said(text: str, rule: str) -> None:
    assert rules(extract(text)) == [rule]


@pytest.mark.parametrize("name", ["a plain file", "one fence", "after a draft", "CRLF", "quoted"])
def test_an_ordinary_answer_has_no_findings(name: str) -> None:
    assert rules(extract(FOUND[name])) == []


def test_a_file_with_a_syntax_error_is_still_a_file() -> None:
    broken = CODE.replace("ModelNew(", "ModelNew((")
    assert extract(broken).candidate == broken


def test_broken_code_in_a_fence_is_still_the_candidate() -> None:
    broken = CODE.replace("ModelNew(", "ModelNew((")
    assert extract(fenced(broken)).candidate == broken


def test_the_real_answer_yields_its_final_block() -> None:
    text = REAL_ANSWER.read_text()
    found = extract(text)
    assert found.first_line == 1005
    assert found.findings == ()
    assert found.candidate is not None
    assert found.candidate.count("class ModelNew") == 1
    assert_place(text, found)


PIECES = st.sampled_from(
    [
        "```",
        "```python\n",
        "~~~",
        "\n",
        "\r",
        "\r\n",
        "<think>",
        "</think>",
        "</thinking>",
        "> ",
        "- ",
        "    ",
        CODE,
        "class ModelNew:\n",
        "import torch\n",
        '"""',
        "'",
        "`",
        "\ufeff",
        "\x00",
        "\ud800",
        "\u2028",
        "\x0c",
        "prose ",
        "#",
        "{",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=24).map("".join) | st.text(max_size=200))
def test_no_text_raises_and_the_answer_is_consistent(text: str) -> None:
    found = extract(text)
    has_error = any(f.severity is Severity.ERROR for f in found.findings)
    assert (found.candidate is None) == bool(found.explanation) == has_error
    if found.candidate is not None:
        assert "\r" not in found.candidate
        assert 1 <= found.first_line <= text.count("\n") + text.count("\r") + 1


@settings(max_examples=100, deadline=None)
@example(">```", "```")
@given(st.text(alphabet="abc `#\n>-", max_size=80), st.sampled_from(["```", "~~~", "````"]))
def test_reasoning_of_any_text_does_not_hide_the_final_block(noise: str, ticks: str) -> None:
    text = f"<think>\n{noise}\n</think>\n\n{fenced(CODE, ticks=ticks)}"
    found = extract(text)
    assert found.candidate == CODE
    assert_place(text, found)


def test_extraction_does_not_import_torch() -> None:
    code = "import sys, harness.extract, harness.screening; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
