"""Settings: every field by its variable, the environment over the defaults, and no change later."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
from pydantic import ValidationError

from harness.settings import Settings

FIELDS = sorted(Settings.model_fields)
OTHER: dict[type, tuple[str, Any]] = {
    Path: ("/somewhere/else", Path("/somewhere/else")),
    float: ("12.5", 12.5),
    int: ("37", 37),
    bool: ("false", False),
    str: ("landlock", "landlock"),  # one of several words
}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(f"KERNEL_HARNESS_{name.upper()}", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def type_of(name: str) -> type:
    kind: Any = Settings.model_fields[name].annotation
    if get_origin(kind) is Literal:
        return str
    assert isinstance(kind, type)
    return kind


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_default_and_says_what_it_is(name: str) -> None:
    field = Settings.model_fields[name]
    assert not field.is_required()
    assert field.description


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_can_be_set_by_its_variable_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Settings()
    text, value = OTHER[type_of(name)]
    monkeypatch.setenv(f"KERNEL_HARNESS_{name.upper()}", text)
    after = Settings()
    assert getattr(after, name) == value != getattr(before, name)
    assert after.model_copy(update={name: getattr(before, name)}) == before


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_passed_comes_before_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, _ = OTHER[type_of(name)]
    monkeypatch.setenv(f"KERNEL_HARNESS_{name.upper()}", text)
    default = Settings.model_construct()
    assert getattr(Settings(**{name: getattr(default, name)}), name) == getattr(default, name)


@pytest.mark.parametrize("name", [n for n in FIELDS if type_of(n) is not Path])
def test_a_value_of_another_kind_is_refused_by_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"KERNEL_HARNESS_{name.upper()}", "several")
    with pytest.raises(ValidationError, match=name):
        Settings()


@pytest.mark.parametrize("name", FIELDS)
def test_settings_do_not_change_after_they_were_read(name: str) -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, getattr(settings, name))


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().cache_dir == Path.home() / ".cache" / "kernel-harness"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert Settings().cache_dir == Path("/caches/kernel-harness")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert Settings().cache_dir == Path.home() / ".cache" / "kernel-harness"


def test_the_defaults_make_sense_together() -> None:
    settings = Settings()
    numbers = {n: getattr(settings, n) for n in FIELDS if type_of(n) in (int, float)}
    assert numbers.pop("keep_warm_seconds") == 0, "nothing is left running unless it is asked for"
    assert min(numbers.values()) > 0
    assert settings.output_bytes < settings.file_bytes < settings.memory_bytes
    assert settings.clock_turns >= 2, "an interval needs two pairs"
    assert 0 < settings.clock_precision < 0.1
