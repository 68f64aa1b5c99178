"""The store of built extensions: complete or absent, and never a way out of a builder's folder."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import children
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.build import Artifact, ArtifactStore

KEY = "ab" + "0" * 62

ADD = """
import sys
from pathlib import Path
from harness.build.artifacts import Artifact, ArtifactStore
root, key, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
library = root / f"library{number}"
library.write_bytes(bytes([number]) * (1 << 20))
store = ArtifactStore(root)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    store.add(Artifact(key=key, succeeded=True, log=str(number), seconds=number), library)
"""
COUNT = """
import sys
from pathlib import Path
from harness.build.artifacts import ArtifactStore
store, counter = ArtifactStore(Path(sys.argv[1])), Path(sys.argv[1]) / "counter"
for _ in range(50):
    with store.building("key"):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def artifact(key: str = KEY, *, succeeded: bool = True) -> Artifact:
    return Artifact(key=key, succeeded=succeeded, log="the compilers' words", seconds=1.5)


def content(store: ArtifactStore, found: Artifact) -> bytes:
    with open(store.open(found), "rb") as library:
        return library.read()


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A library as a builder leaves it."""
    path = tmp_path / "work" / "ext.so"
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF library")
    return path


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "cache")


# ---- what goes in comes out --------------------------------------------------------------------


def test_an_artifact_is_found_again_with_its_library(store: ArtifactStore, built: Path) -> None:
    assert store.find(KEY) is None
    added = store.add(artifact(), built)
    assert store.find(KEY) == added
    assert added.library is not None
    assert content(store, added) == built.read_bytes()
    assert store.find(KEY.replace("a", "b")) is None


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_artifact_without_a_library_keeps_the_compilers_words(
    succeeded: bool, store: ArtifactStore
) -> None:
    added = store.add(artifact(succeeded=succeeded), None)
    assert store.find(KEY) == added == artifact(succeeded=succeeded)
    with pytest.raises(FileNotFoundError, match="no library"):
        store.open(added)


def test_the_library_is_a_copy_that_its_builder_cannot_change(
    store: ArtifactStore, built: Path
) -> None:
    added = store.add(artifact(), built)
    before = built.read_bytes()
    built.write_bytes(b"changed afterwards")
    assert content(store, added) == before


def test_what_was_changed_or_left_in_the_store_is_found(
    store: ArtifactStore, built: Path, tmp_path: Path
) -> None:
    kept = store.add(artifact(), built)
    assert store.spoilt() == []
    (library,) = (path for path in tmp_path.rglob(str(kept.library)))
    library.chmod(0o644)
    library.write_bytes(b"another")
    left = library.parent / "left"
    left.write_text("by somebody")
    assert set(store.spoilt()) == {library, left}


def test_a_descriptor_of_a_library_is_for_reading_and_stays_here(
    store: ArtifactStore, built: Path
) -> None:
    fd = store.open(store.add(artifact(), built))
    assert not os.get_inheritable(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"x")
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o444
    os.close(fd)


def test_the_first_of_two_equal_keys_stays(store: ArtifactStore, built: Path) -> None:
    first = store.add(artifact(), built)
    built.write_bytes(b"another")
    second = store.add(artifact(), built)
    assert second.library == first.library
    assert content(store, first) == content(store, second) == b"\x7fELF library"


@given(st.sets(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=8))
@settings(max_examples=10)
def test_keys_do_not_meet(keys: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, library = ArtifactStore(Path(folder)), Path(folder) / "library"
        for key in keys:
            library.write_text(key)
            store.add(artifact(key), library)
        for key in keys:
            found = store.find(key)
            assert found is not None
            assert content(store, found) == key.encode()


# ---- a hostile builder's folder ----------------------------------------------------------------


def leave(kind: str, path: Path, secret: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "symlink":
        path.symlink_to(secret)
    elif kind == "dangling":
        path.symlink_to(secret.with_name("nowhere"))
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "kind", ["symlink", "dangling", "directory", "fifo", "socket", "device", "nothing"]
)
def test_only_a_regular_file_is_taken_for_a_library(
    kind: str, store: ArtifactStore, tmp_path: Path
) -> None:
    secret, left = tmp_path / "secret", tmp_path / "left.so"
    secret.write_text("not the builder's to give")
    leave(kind, left, secret)
    with pytest.raises(OSError):
        store.add(artifact(), left)
    assert store.find(KEY) is None
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


# ---- several processes -------------------------------------------------------------------------


def test_of_processes_that_race_for_one_key_one_wins_whole(tmp_path: Path) -> None:
    racing = [children.start(ADD, tmp_path, KEY, number) for number in (1, 2, 3)]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in racing:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    store = ArtifactStore(tmp_path)
    found = store.find(KEY)
    assert found is not None
    assert content(store, found) == bytes([int(found.seconds)]) * (1 << 20)
    assert found.log == str(int(found.seconds))
    assert [p.name for p in (tmp_path / "artifacts").iterdir()] == [KEY[:2]]
    assert len(list((tmp_path / "artifacts" / KEY[:2]).iterdir())) == 1


def test_one_process_at_a_time_builds_a_key(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    racing = [children.start(COUNT, tmp_path) for _ in range(3)]
    for process in racing:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert (tmp_path / "counter").read_text() == "150"


def test_the_right_to_build_one_key_does_not_hold_up_another(store: ArtifactStore) -> None:
    with store.building("one"), store.building("other"):
        pass
