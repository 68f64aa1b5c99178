"""The network is out of reach, what was handed over works, and the watch tells the truth."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.sandbox import Level, available, explain, kill_tree, tree_usage

from .conftest import LEVELS, Run, Start, eventually


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.parametrize("level", LEVELS)
def test_there_is_no_network(run: Run, server: socket.socket, level: Level) -> None:
    source = """
import json, socket
reached = []
def attempt(name, call):
    try:
        call()
        reached.append(name)
    except OSError:
        pass
def tcp(family, address):
    socket.socket(family, socket.SOCK_STREAM).connect((address, parameters))
attempt('tcp', lambda: tcp(socket.AF_INET, '127.0.0.1'))
attempt('tcp6', lambda: tcp(socket.AF_INET6, '::1'))
udp = lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))
attempt('udp', udp)
attempt('listen', lambda: socket.create_server(('', 0)))
attempt('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt('vsock', lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
print(json.dumps(reached))
"""
    assert run(source, level, parameters=server.getsockname()[1]).said == []


@pytest.mark.skipif(available() is Level.LIMITS, reason="needs scopes or namespaces")
@pytest.mark.parametrize("level", [level for level in LEVELS if level is not Level.LIMITS])
def test_abstract_sockets_of_others_are_out_of_reach(run: Run, level: Level) -> None:
    name = f"\0sandbox-test-{os.getpid()}"
    source = """
import json, socket
try:
    socket.socket(socket.AF_UNIX).connect(parameters)
    print(json.dumps('connected'))
except OSError:
    print(json.dumps('refused'))
"""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        assert run(source, level, parameters=name).said == "refused"


@pytest.mark.parametrize("level", LEVELS)
def test_sockets_and_memory_that_were_handed_over_work(run: Run, level: Level) -> None:
    before = """
import mmap, os, socket
ours, theirs = socket.socketpair()
ours.sendall(b'question')
memory = os.memfd_create('shared')
os.ftruncate(memory, 4096)
keep = [theirs.fileno(), memory]
"""
    source = """
import json, mmap, os, socket
assert theirs.recv(8) == b'question'
theirs.sendall(b'answer')
try:
    os.fstat(ours.fileno())
    ours_is_closed = False
except OSError:
    ours_is_closed = True
theirs.close()
mmap.mmap(memory, 4096)[:4] = b'seen'
open(f'/proc/self/fd/{memory}', 'rb').close()
own = os.memfd_create('own')
os.write(own, b'x')
a, b = socket.socketpair()
a.sendall(b'x')
print(json.dumps(ours_is_closed))
"""
    after = """
theirs.close()
assert ours.recv(100) == b'answer'
assert ours.recv(100) == b''
assert mmap.mmap(memory, 4096)[:4] == b'seen'
"""
    outcome = run(source, level, before=before, after=after)
    assert outcome.said is True
    assert outcome.stderr == ""


@pytest.mark.parametrize("level", LEVELS)
def test_who_reads_from_the_process_sees_its_end_while_the_keepers_live(
    start: Start, level: Level
) -> None:
    source = "import os, time; os.close(1); os.close(2); time.sleep(60)"
    running = start(source, level)
    # The driver holds the pipe as well, so look at who else does.
    pipe = os.fstat(running.process.stdout.fileno()).st_ino  # type: ignore[union-attr]

    def holders() -> list[int]:
        found = []
        for pid in running.processes():
            links = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
            found += [pid for link in links if link == f"pipe:[{pipe}]"]
        return found

    if os.geteuid() == 0:  # the keeper is not dumpable, so nobody else may look
        assert eventually(lambda: len(running.processes()) == 3 and holders() == [])


@pytest.mark.parametrize("level", LEVELS)
def test_torch_imported_before_the_fork_works_after_it(run: Run, level: Level) -> None:
    # Importing only: once GNU OpenMP has threads, they are missing after any fork, and it hangs.
    source = """
import json
import torch.nn.functional
print(json.dumps((torch.ones(512, 512) @ torch.ones(512, 512)).sum().item()))
"""
    assert run(source, level, before="import torch").said == 512.0**3


@pytest.mark.parametrize("level", LEVELS)
def test_standard_input_is_empty_and_the_session_its_own(run: Run, level: Level) -> None:
    source = """
import json, os, sys
print(json.dumps([sys.stdin.read(), os.getsid(0) == os.getpid(), os.path.exists('/dev/tty')
                  and os.access('/dev/tty', os.R_OK) and os.isatty(0)]))
"""
    assert run(source, level).said == ["", True, False]


@pytest.mark.parametrize("level", LEVELS)
def test_limits_cannot_be_raised_again(run: Run, level: Level) -> None:
    source = """
import json, resource
raised = []
for limit in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
    soft, hard = resource.getrlimit(limit)
    try:
        resource.setrlimit(limit, (hard + 1, hard + 1))
        raised.append(limit)
    except (OSError, ValueError):
        pass
print(json.dumps([raised, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
    assert run(source, level, open_files=77).said == [[], [77, 77]]


@pytest.mark.parametrize("level", LEVELS)
def test_memory_of_all_descendants_is_counted(start: Start, level: Level) -> None:
    source = """
import os, time
print(flush=True)
time.sleep(0.3)
os.fork()
block = bytearray(os.urandom(1 << 20)) * 60
print(flush=True)
time.sleep(60)
"""
    running = start(source, level)
    running.line()
    idle = tree_usage(running.pid)
    running.line()
    running.line()
    busy = tree_usage(running.pid)
    assert idle.processes == 1
    assert busy.processes == 2
    assert busy.rss_bytes - idle.rss_bytes > 2 * 60 << 20
    kill_tree(running.pid)
    running.finish()
    assert eventually(lambda: tree_usage(running.pid).processes == 0)


@pytest.mark.parametrize("level", LEVELS)
def test_memory_that_processes_share_counts_once_where_it_is_counted_exactly(
    start: Start, level: Level
) -> None:
    source = """
import os, time
block = bytearray(os.urandom(1 << 20)) * 60
for _ in range(8):
    if os.fork() == 0:
        time.sleep(60)
print(flush=True)
time.sleep(60)
"""
    running = start(source, level)
    running.line()
    assert tree_usage(running.pid).rss_bytes > 9 * 60 << 20
    exact = tree_usage(running.pid, exact=True)
    assert exact.processes == 9
    assert 60 << 20 < exact.rss_bytes < 3 * 60 << 20


def test_memory_of_nothing_is_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert tree_usage(gone.pid).rss_bytes == 0
    kill_tree(gone.pid)


def test_explanations_name_the_level_and_are_sentences() -> None:
    sentences = explain()
    assert available() in sentences[0]
    assert all(sentence.endswith(".") for sentence in sentences)


def test_levels_are_ordered() -> None:
    assert Level.NAMESPACES.at_least(Level.LANDLOCK)
    assert not Level.LIMITS.at_least(Level.LANDLOCK)
    assert Level.LANDLOCK.weaker_of(Level.NAMESPACES) is Level.LANDLOCK
