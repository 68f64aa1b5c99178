"""Fork servers that stay: whom they serve, whom they do not, and when they end."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.sandbox import Level
from harness.settings import Settings
from harness.supervisor import Child, ForkServer, Limits, ending
from harness.warm import Door, Stay, enter
from tests import children

from .conftest import LEVELS, Start, eventually

HELLO = {"ready": True, "threads": 1}


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Whose servers stay, and end with the test."""
    yield Settings(cache_dir=tmp_path, keep_warm_seconds=60)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ()):
            process.kill()


@contextlib.contextmanager
def started(settings: Settings) -> Iterator[ForkServer]:
    """As a command starts a server, and lets go of it."""
    server = ForkServer.start(settings=settings)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def builder(server: ForkServer, settings: Settings) -> Iterator[tuple[psutil.Process, int]]:
    """A child of a server, and the server's process."""
    with ending(Child.confined(server, "builder", Limits.of(settings))) as child:
        process = psutil.Process(child.pid)
        yield process, process.ppid()


def test_a_server_that_stayed_serves_the_next_command_and_those_at_the_same_time(
    settings: Settings,
) -> None:
    with started(settings) as server, builder(server, settings) as (_, first):
        pass
    with (
        started(settings) as server,
        builder(server, settings) as (_, second),
        started(settings) as other,
        builder(other, settings) as (_, third),
    ):
        assert first == second == third


def test_what_a_command_left_ends_with_it_and_the_server_stays(settings: Settings) -> None:
    server = ForkServer.start(settings=settings)
    left = Child.confined(server, "builder", Limits.of(settings))
    process = psutil.Process(left.pid)
    parent = process.parent()
    assert parent is not None
    server.close()
    assert eventually(lambda: not process.is_running())
    assert parent.is_running()
    left.kill()


def test_a_child_does_not_hold_the_door(settings: Settings) -> None:
    with started(settings) as server, builder(server, settings) as (child, _):
        rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
        listening = {row[6] for row in rows if row[-1].endswith(".socket") and row[3] == "00010000"}
        assert listening
        held = {os.readlink(link) for link in Path(f"/proc/{child.pid}/fd").iterdir()}
        assert not held & {f"socket:[{inode}]" for inode in listening}


def test_it_ends_when_nobody_has_come_for_a_while_and_leaves_no_zombie(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path, keep_warm_seconds=0.2)
    with started(settings) as server, builder(server, settings) as (_, pid):
        pass
    assert eventually(lambda: not psutil.pid_exists(pid))
    assert {path.suffix for path in (tmp_path / "warm").iterdir()} == {".lock", ".log"}


def test_by_default_it_ends_with_the_command(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path)
    with started(settings) as server, builder(server, settings) as (_, pid):
        process = psutil.Process(pid)
    assert not process.is_running()
    assert not (tmp_path / "warm").exists()


def test_another_command_environment_or_directory_is_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(command: str = "python", **environment: str) -> str:
        return Stay.of(tmp_path, 1, [command], environment).name

    names = {name(), name("other"), name(CUDA_VISIBLE_DEVICES="1")}
    monkeypatch.chdir(tmp_path)
    names.add(name())
    assert len(names) == 4
    assert name() == name()


def test_another_version_of_ours_is_another_server(tmp_path: Path) -> None:
    from harness import version

    name = Stay.of(tmp_path, 1, [], {}).name
    file = Path(version.__file__)
    before = file.stat()
    try:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert Stay.of(tmp_path, 1, [], {}).name != name
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def stay(tmp_path: Path) -> Stay:
    """In a directory whose name is longer than a socket's address may be."""
    return Stay(tmp_path / ("long" * 40), "name", 1.0)


def test_there_is_one_door_of_a_name_and_a_new_one_where_its_server_was_killed(stay: Stay) -> None:
    program = (
        "import sys\nfrom harness.warm import Door, Stay\n"
        "door = Door.open(Stay.of_word(sys.argv[1]))\nprint(door is not None, flush=True)\n"
        "sys.stdin.read()"
    )
    with children.start(program, stay.to_word()) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert Door.open(stay) is None
        holder.kill()
    assert stay.path("socket").exists()
    assert enter(stay) is None
    door = Door.open(stay)
    assert door is not None
    door.close()


CONNECT = """
import json, socket
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.settimeout(20)
try:
    sock.connect(parameters)
    print(json.dumps(sock.recv(100).decode()))
except OSError as error:
    print(json.dumps(type(error).__name__))
"""


@pytest.mark.parametrize("level", LEVELS)
def test_who_is_confined_is_not_let_in(start: Start, level: Level, outside: Path) -> None:
    stay = Stay(outside, "name", 1.0)
    door = Door.open(stay)
    assert door is not None
    running = start(CONNECT, level, parameters=str(stay.path("socket")))
    assert select.select([door], [], [], 20)[0]  # it gets as far as that, as no folder is hidden
    assert door.admit(HELLO) is None
    assert running.finish().said == ""
    door.close()


def test_who_is_not_confined_is_let_in(stay: Stay) -> None:
    door = Door.open(stay)
    assert door is not None
    program = (
        "import sys\nfrom harness.warm import Stay, enter\n"
        "print(enter(Stay.of_word(sys.argv[1])) is not None)"
    )
    with children.start(program, stay.to_word()) as other:
        assert select.select([door], [], [], 20)[0]
        assert door.admit(HELLO) is not None
        assert other.communicate(timeout=20)[0] == "True\n"
    assert stay.directory.stat().st_mode & 0o077 == 0
    door.close()
