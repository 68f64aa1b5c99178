"""Strings are resolved without running anything, and every line knows where it came from."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.screening._extension import Extensions
from harness.screening._module import Module
from harness.screening._text import Text


def resolve(code: str) -> Text:
    """The text of the source that the code's load_inline call gets."""
    module = Module(code, ast.parse(code))
    (extension,) = Extensions(module).found
    (text,) = extension.cuda
    return text


def value(code: str) -> str:
    """What Python itself makes of ``cuda_sources``."""
    scope: dict[str, object] = {}
    body, _, argument = code.rpartition("load_inline(cuda_sources=")
    exec(compile(body + "result = (" + argument, "code", "exec"), scope)
    return str(scope["result"])


CALL = "\nload_inline(cuda_sources=s)"
FORMS = {
    "plain": 's = "MARK"' + CALL,
    "triple quoted": 's = """\na\nMARK\nb\n"""' + CALL,
    "triple quoted, first line": 's = """MARK\nb\n"""' + CALL,
    "backslash newline": 's = """\\\na\nMARK\n"""' + CALL,
    "backslash newline before it": 's = """\\\nMARK\n"""' + CALL,
    "raw": 's = r"""\na\\n\nMARK"""' + CALL,
    "escapes": 's = """a\\tb\\\\ \\x41 \\n c \\"\nMARK"""' + CALL,
    "implicit concatenation": 's = ("a\\n"\n     # comment\n     "b\\n"\n     "MARK\\n")' + CALL,
    "addition": 'a = """\nx\n"""\nb = """\ny\nMARK\n"""\ns = a + b' + CALL,
    "added later": 's = """\nx\n"""\ns += """\nMARK\n"""' + CALL,
    "strip": 's = """\n\n\n  x\nMARK\n""".strip()' + CALL,
    "join": 'a = "x\\ny"\nb = "MARK"\ns = "\\n".join([a, b])' + CALL,
    "replace": 's = """\nx\nMARK float\n""".replace("float", "double")' + CALL,
    "dedent": 'import textwrap\ns = textwrap.dedent("""\n    x\n    MARK\n""")' + CALL,
    "f-string without fields": 's = f"""\nx {{ }}\nMARK\n"""' + CALL,
    "f-string with constants": 'N = 16\nT = "float"\ns = f"""\n#define N {N}\n{T} MARK {{\n"""'
    + CALL,
    "direct": '\nload_inline(cuda_sources="""\nx\nMARK\n""")',
    "non-ascii": 's = "é" """\né MARK"""' + CALL,
    "a name behind a name": 'a = """\nMARK\n"""\ns = a' + CALL,
}


@pytest.mark.parametrize("code", FORMS.values(), ids=FORMS)
def test_texts_and_lines_agree_with_python(code: str) -> None:
    text = resolve(code)
    assert text.exact
    assert text.value == value(code)
    row = text.value[: text.value.index("MARK")].count("\n")
    assert text.line(row) == code[: code.rindex("MARK")].count("\n") + 1
    assert len(text.lines) == text.value.count("\n") + 1


def test_a_line_made_of_two_counts_where_it_starts() -> None:
    assert resolve('\ns = """a \\\nb\nc"""' + CALL).lines == (2, 4)


@pytest.mark.parametrize(
    "code",
    [
        "s = open('x').read()" + CALL,
        "s = 'a'\ns = 'b'" + CALL,
        "s = f'{unknown} MARK'" + CALL,
        "s = '%d MARK' % 3" + CALL,
        "s = '{} MARK'.format(3)" + CALL,
        "s = a" + CALL,
        "def f(s):\n    load_inline(cuda_sources=s)",
    ],
)
def test_what_cannot_be_resolved_is_inexact(code: str) -> None:
    assert not resolve(code).exact


def test_a_source_of_a_function_is_looked_up_in_that_function_first() -> None:
    code = "s = 'outer'\ndef f():\n    s = 'inner'\n    return load_inline(cuda_sources=s)"
    assert resolve(code).value == "inner"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace").decode().replace("\r", "")))
def test_any_literal_is_resolved_to_its_value(text: str) -> None:
    literal = repr(text)
    assert resolve(f"s = {literal}{CALL}").value == text


@pytest.mark.parametrize(
    "form", ["s{1} = s{0} + s{0}", "s{1} = [s{0}, s{0}]", "s{1} = f'{{s{0}}}{{s{0}}}'"]
)
def test_a_text_that_doubles_forty_times_is_not_written_out(form: str) -> None:
    steps = "\n".join(form.format(i, i + 1) for i in range(40))
    module = Module(code := f"s0 = 'MARK'\n{steps}\nload_inline(cuda_sources=s40)", ast.parse(code))
    (extension,) = Extensions(module).found
    assert sum(len(text.value) for text in extension.cuda) < 1 << 25
    assert not all(text.exact for text in extension.cuda)
