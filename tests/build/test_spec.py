"""What is to be built: names that cannot be more than names, and keys that miss nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.build import ExtensionSpec
from harness.build.builder import Toolchain

INLINE: dict[str, Any] = {
    "kind": "inline",
    "name": "relu_ext",
    "cpp_sources": ("int f();",),
    "cuda_sources": ("int f() { return 1; }",),
    "functions": (("f", "Doubles."),),
}
FILES: dict[str, Any] = {"kind": "files", "name": "e", "files": (("a.cpp", "int a;"),)}
NOT_NAMES = [
    "", "1a", "a b", "a-b", "a.b", "a/b", "../a", "a\n", "a\0", "a;rm", "$(a)", "`a`", "a\tb", "é",
    "a" * 129, 'a"', "a'", "a\\b", "$in", "a|b", "a:b",
]  # fmt: skip
NOT_FILES = [
    "", ".", "..", "../a.cpp", "/a.cpp", "a/b.cpp", "a/../b.cpp", ".hidden", "-o", "a b.cpp",
    "a\n.cpp", "a.cpp\n", "a\0.cpp", "$a.cpp", "a;b.cpp", "é.cpp", "a" * 129, "a\\b.cpp", "a:b.cpp",
]  # fmt: skip


def inline(**more: Any) -> ExtensionSpec:
    return ExtensionSpec(**INLINE | more)


def as_wire(spec: ExtensionSpec) -> Any:
    return json.loads(spec.model_dump_json())


# ---- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOT_NAMES)
def test_a_name_can_be_nothing_but_an_identifier(name: str) -> None:
    with pytest.raises(ValidationError):
        inline(name=name)
    with pytest.raises(ValidationError):
        inline(functions=((name, ""),))


@given(st.text(max_size=12))
def test_every_name_that_is_accepted_is_an_identifier(name: str) -> None:
    try:
        inline(name=name, functions=((name, ""),))
    except ValidationError:
        assert not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII)
    else:
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII)


@pytest.mark.parametrize("name", NOT_FILES)
def test_a_file_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(ValidationError):
        ExtensionSpec(**FILES | {"files": ((name, ""),)})


@given(st.text("ab./-_~$ \n\\", max_size=8))
def test_every_file_name_that_is_accepted_is_one_plain_path_component(name: str) -> None:
    try:
        ExtensionSpec(**FILES | {"files": ((name, ""),)})
    except ValidationError:
        return
    assert name not in (".", "..")
    assert not name.startswith((".", "-"))
    assert not set(name) & set("/\\ \n$~")


@pytest.mark.parametrize("doc", ['a"', 'x"); evil(); //', "a\\", "a\nb", '\\"'])
def test_a_docstring_cannot_end_its_literal(doc: str) -> None:
    with pytest.raises(ValidationError, match="docstring of f"):
        inline(functions=(("f", doc),))


@given(st.text())
def test_every_docstring_that_is_accepted_fits_between_two_quotes(doc: str) -> None:
    try:
        inline(functions=(("f", doc),))
    except ValidationError:
        assert set(doc) & set('"\\\n') or any("\ud800" <= c <= "\udfff" for c in doc)
    else:
        assert not set(doc) & set('"\\\n')


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "shell"},
        {"build_directory": "/"},
        {"cpp_sources": "text"},
        {"cpp_sources": (1,)},
        {"functions": (("f",),)},
        {"functions": {"f": "doc"}},
        {"extra_cflags": "-O3"},
        {"with_cuda": "perhaps"},
    ],
    ids=str,
)
def test_what_is_no_spec_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExtensionSpec.model_validate(INLINE | change)


def test_a_spec_survives_the_wire() -> None:
    for spec in (inline(), ExtensionSpec(**FILES), inline(functions=None, with_cuda=False)):
        assert ExtensionSpec.model_validate(as_wire(spec)) == spec
        assert ExtensionSpec.model_validate(as_wire(spec)).key("t") == spec.key("t")


# ---- what it says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "cuda"),
    [
        ({}, True),
        ({"cuda_sources": ()}, False),
        ({"cuda_sources": (), "with_cuda": True}, True),
        ({"with_cuda": False}, False),
    ],
    ids=str,
)
def test_cuda_is_told_from_the_sources_unless_it_is_stated(
    change: dict[str, Any], cuda: bool
) -> None:
    assert inline(**change).is_cuda is cuda


@pytest.mark.parametrize(("name", "cuda"), [("a.cu", True), ("a.cuh", True), ("a.cpp", False)])
def test_cuda_is_told_from_the_names_of_files(name: str, cuda: bool) -> None:
    spec = ExtensionSpec(**FILES | {"files": (("b.cpp", "1"), (name, "2"))})
    assert spec.is_cuda is cuda
    assert spec.texts == ("1", "2")


# ---- keys --------------------------------------------------------------------------------------

CHANGES: list[dict[str, Any]] = [
    {"name": "relu_ext2"},
    {"kind": "files"},
    {"cpp_sources": ("int f(); ",)},
    {"cpp_sources": ("int f()", ";")},
    {"cpp_sources": ("int f();", "")},
    {"cuda_sources": ("int f() { return 2; }",)},
    {"cpp_sources": INLINE["cuda_sources"], "cuda_sources": INLINE["cpp_sources"]},
    {"functions": None},
    {"functions": ()},
    {"functions": (("f", "Halves."),)},
    {"functions": (("g", "Doubles."),)},
    {"files": (("a.cpp", ""),)},
    {"files": (("a.cpp", ""), ("b.cpp", ""))},
    {"files": (("b.cpp", ""), ("a.cpp", ""))},
    {"extra_cflags": ("-O3",)},
    {"extra_cflags": ("-O3", "-g")},
    {"extra_cflags": ("-O3 -g",)},
    {"extra_cuda_cflags": ("-O3",)},
    {"extra_ldflags": ("-O3",)},
    {"extra_include_paths": ("-O3",)},
    {"with_cuda": True},
    {"with_cuda": False},
    {"is_python_module": False},
    {"with_pytorch_error_handling": False},
    {"no_implicit_headers": True},
]


def test_a_key_changes_with_everything_that_can_be_stated() -> None:
    touched = {name for change in CHANGES for name in change}
    assert touched == set(ExtensionSpec.model_fields)
    keys = [inline(**change).key("t") for change in [{}, *CHANGES]]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[0-9a-f]{64}", key) for key in keys)


def test_a_key_changes_with_each_part_of_the_toolchain() -> None:
    here = Toolchain("2.13", "13.0", "c++ 12", "nvcc 13", "9.0")
    others = [{n: v + "x"} for n, v in vars(here).items()]
    chains = [here, *(Toolchain(**vars(here) | other) for other in others)]
    assert len({inline().key(str(chain)) for chain in chains}) == len(chains)


@given(st.text(max_size=20), st.text(max_size=20))
def test_toolchain_and_spec_do_not_run_into_each_other(one: str, other: str) -> None:
    assert (inline().key(one) == inline().key(other)) is (one == other)


def test_equal_specs_have_equal_keys() -> None:
    assert inline().key("t") == ExtensionSpec.model_validate(as_wire(inline())).key("t")
