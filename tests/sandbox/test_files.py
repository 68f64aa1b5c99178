"""A confined process changes nothing outside its work directory and reads nothing hidden."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.sandbox import Level, available, runtime_paths

from .conftest import FILE_LEVELS, LEVELS, Run

# Each tries to change `victim` or its directory `outside`; what it raises does not matter.
WRITES = {
    "opening for writing": "open(victim, 'w').write('x')",
    "opening for appending": "open(victim, 'a').write('x')",
    "opening for update": "open(victim, 'r+').write('x')",
    "truncating": "os.truncate(victim, 0)",
    "creating": "open(outside + '/new', 'w')",
    "making a directory": "os.mkdir(outside + '/new')",
    "removing": "os.unlink(victim)",
    "renaming": "os.rename(victim, 'taken')",
    "renaming onto": "open('mine', 'w'); os.rename('mine', victim)",
    "a hard link": "os.link(victim, 'hard'); open('hard', 'w').write('x')",
    "a symbolic link": "os.symlink(victim, 'soft'); open('soft', 'w').write('x')",
    "a link to the directory": "os.symlink(outside, 'soft'); open('soft/new', 'w')",
    "the root in /proc": "open('/proc/self/root' + victim, 'w').write('x')",
    "the keeper's root": "open('/proc/1/root' + victim, 'w').write('x')",
    "a path upwards": "open('../' * 30 + victim, 'w').write('x')",
    "a directory descriptor": (
        "os.open('victim', os.O_WRONLY | os.O_TRUNC, dir_fd=os.open(outside, os.O_PATH))"
    ),
    "a reopened descriptor": (
        "open(f'/proc/self/fd/{os.open(victim, os.O_RDONLY)}', 'w').write('x')"
    ),
    "remounting": """
for target in ('/', outside, '/var', '/var/tmp'):
    libc.mount(None, target.encode(), None, MS_REMOUNT | MS_BIND, None)
libc.umount2(b'/', MNT_DETACH)
open(victim, 'w').write('x')""",
    "a user namespace": """
libc.unshare(CLONE_NEWUSER | CLONE_NEWNS)
for target in ('/', outside, '/var', '/var/tmp'):
    libc.mount(None, target.encode(), None, MS_REMOUNT | MS_BIND, None)
open(victim, 'w').write('x')""",
    "a program": "os.system(f'echo x > {victim}')",
}

TRY = """
import ctypes, os
libc = ctypes.CDLL(None)
MS_REMOUNT, MS_BIND, MNT_DETACH = 32, 4096, 2
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
for outside, attack in parameters:
    victim = outside + '/victim'
    for made in ('hard', 'soft', 'mine'):
        if os.path.lexists(made):
            os.unlink(made)
    try:
        exec(attack)
    except BaseException:
        pass
"""


@pytest.mark.parametrize("level", FILE_LEVELS)
def test_nothing_outside_can_be_written(run: Run, outside: Path, level: Level) -> None:
    assert attack_all(run, outside, level) == []


def attack_all(run: Run, outside: Path, level: Level) -> list[str]:
    """Tries everything, each on a directory of its own, and names what had an effect."""
    places = {name: outside / str(number) for number, name in enumerate(WRITES)}
    for place in places.values():
        place.mkdir()
        (place / "victim").write_text("intact")
    outcome = run(TRY, level, parameters=[(str(places[n]), WRITES[n]) for n in WRITES])
    assert outcome.report == {"exit": 0}
    return [name for name, place in places.items() if contents(place) != {"victim": "intact"}]


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() if path.is_file() else "" for path in directory.iterdir()}


def test_these_attacks_would_succeed_without_a_sandbox(run: Run, outside: Path) -> None:
    changed = attack_all(run, outside, Level.LIMITS)
    assert [name for name in WRITES if name not in changed] == ["the keeper's root"]


@pytest.mark.skipif(available() is not Level.NAMESPACES, reason="needs a read-only root")
def test_modes_and_owners_outside_cannot_be_changed(run: Run, outside: Path) -> None:
    before = (outside / "victim").stat()
    attacks = ["os.chmod(victim, 0o777)", "os.utime(victim)", "os.setxattr(victim, 'user.a', b'')"]
    run(TRY, Level.NAMESPACES, parameters=[(str(outside), attack) for attack in attacks])
    assert (outside / "victim").stat() == before


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_written_in_the_work_directory_is_seen_outside(
    run: Run, workdir: Path, outside: Path, level: Level
) -> None:
    for directory in (workdir, outside / "work"):
        directory.mkdir(exist_ok=True)
        said = run(
            """
import json, os, pathlib, tempfile
pathlib.Path('sub').mkdir()
pathlib.Path('sub/result').write_text('done')
print(json.dumps([os.getcwd(), os.environ['HOME'], tempfile.gettempdir()]))
""",
            level,
            directory=directory,
        ).said
        assert said == [str(directory)] * 3
        assert (directory / "sub/result").read_text() == "done"


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_cannot_outgrow_its_limit(run: Run, workdir: Path, level: Level) -> None:
    outcome = run("open('big', 'wb').write(bytes(1 << 20))", level, file_bytes=1 << 16)
    assert "File too large" in outcome.stderr
    assert (workdir / "big").stat().st_size == 1 << 16


@pytest.mark.parametrize("level", FILE_LEVELS)
def test_hidden_directories_can_neither_be_listed_nor_read(
    run: Run, outside: Path, tmp_path: Path, level: Level
) -> None:
    hidden = []
    for parent in (outside, tmp_path):
        (parent / "secrets/deep").mkdir(parents=True)
        (parent / "secrets/deep/answer").write_text("42")
        (parent / "public").write_text("hello")
        hidden.append(parent / "secrets")
    said = run(
        """
import json, os
seen = {}
for path in parameters:
    seen[path] = []
    for base in (path, '/proc/self/root' + path):
        for attempt in (lambda: os.listdir(base), lambda: os.listdir(base + '/deep'),
                        lambda: open(base + '/deep/answer').read()):
            try:
                seen[path].append(attempt())
            except OSError:
                seen[path].append([])
seen['public'] = [open(path.replace('secrets', 'public')).read() for path in parameters]
print(json.dumps(seen))
""",
        level,
        hidden=tuple(hidden),
        readable=(*runtime_paths(), outside, tmp_path),
        parameters=[str(path) for path in hidden],
    ).said
    assert said.pop("public") == ["hello", "hello"]
    assert all(not any(attempts) for attempts in said.values()), said


@pytest.mark.parametrize("level", FILE_LEVELS)
def test_a_readable_directory_inside_a_hidden_one_stays_readable(
    run: Run, outside: Path, level: Level
) -> None:
    (outside / "runtime").mkdir()
    (outside / "runtime/module").write_text("code")
    source = """
import json, os
print(json.dumps([os.path.exists(parameters + '/runtime/module'),
                  open(parameters + '/runtime/module').read()]))
try:
    open(parameters + '/victim')
except OSError:
    pass
else:
    raise SystemExit('visible')
"""
    readable = (*runtime_paths(), outside / "runtime")
    outcome = run(source, level, hidden=(outside,), readable=readable, parameters=str(outside))
    assert outcome.said == [True, "code"]


@pytest.mark.parametrize("level", FILE_LEVELS)
def test_only_harmless_devices_can_be_opened(run: Run, level: Level) -> None:
    source = """
import json, os, stat
opened = []
for path in parameters:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        opened.append(path)
    except OSError:
        pass
try:
    os.mknod('made', 0o600 | stat.S_IFBLK, os.makedev(254, 0))
    opened.append('made')
except OSError:
    pass
print(json.dumps(sorted(opened)))
"""
    nodes = [path for path in Path("/dev").rglob("*") if not path.is_symlink()]
    devices = [str(p) for p in nodes if p.is_char_device() or p.is_block_device()]
    harmless = [f"/dev/{name}" for name in ("full", "null", "random", "urandom", "zero")]
    assert run(source, level, parameters=devices).said == harmless


@pytest.mark.parametrize("level", FILE_LEVELS)
def test_system_settings_cannot_be_written_even_by_root(run: Run, level: Level) -> None:
    source = """
import json, os
writable = []
for base in ('/proc', '/sys/fs/cgroup', '/sys/kernel'):
    for directory, directories, names in os.walk(base):
        directories[:] = [d for d in directories if not d.isdigit()][:20]
        for path in (os.path.join(directory, name) for name in names):
            if not os.path.islink(path) and not path.startswith(('/proc/self', '/proc/thread')):
                try:
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                    writable.append(path)
                except OSError:
                    pass
print(json.dumps(writable))
"""
    assert run(source, level).said == []


@pytest.mark.parametrize("level", FILE_LEVELS)
def test_a_thread_can_be_named_as_the_cuda_driver_does(run: Run, level: Level) -> None:
    source = """
import json, os, threading
stop, ready, names = threading.Event(), threading.Event(), []
def body():
    names.append(threading.get_native_id())
    ready.set()
    stop.wait()
thread = threading.Thread(target=body)
thread.start()
ready.wait()
comm = f'/proc/self/task/{names[0]}/comm'
open(comm, 'r+').write('cuda-EvtHandlr')
open(f'/proc/self/task/{os.getpid()}/comm', 'w').write('worker')
open('/dev/null', 'w').write('x')
print(json.dumps(open(comm).read().strip()))
stop.set()
thread.join()
"""
    assert run(source, level).said == "cuda-EvtHandlr"


@pytest.mark.skipif(available() is not Level.NAMESPACES, reason="needs private mounts")
def test_scratch_space_is_private_and_bounded(run: Run) -> None:
    source = """
import json, os
before = os.listdir('/tmp'), os.listdir('/dev/shm')
for path in ('/tmp/fill', '/dev/shm/fill'):
    try:
        open(path, 'wb').write(bytes(1 << 21))
    except OSError as error:
        assert error.errno == 28, error
    else:
        raise SystemExit('unbounded')
print(json.dumps(before))
"""
    names, shared = run(source, Level.NAMESPACES, scratch_bytes=1 << 20).said
    assert shared == []
    # What the runtime needs may itself lie below /tmp; the way to it shows, and nothing beside it.
    tmp = Path("/tmp")
    leads_to = {p.relative_to(tmp).parts[0] for p in runtime_paths() if tmp in p.parents}
    assert all(name.startswith("pytest-of-") for name in set(names) - leads_to)
    assert not Path("/tmp/fill").exists()
    assert not Path("/dev/shm/fill").exists()


@pytest.mark.skipif(available() is not Level.NAMESPACES, reason="needs private mounts")
def test_a_private_work_directory_fills_nobodys_disk(
    run: Run, workdir: Path, outside: Path
) -> None:
    source = """
import json, os, pathlib
many = 0
try:
    for many in range(100):
        with open(f'part{many}', 'wb') as file:
            os.posix_fallocate(file.fileno(), 0, 1 << 18)
except OSError as error:
    assert error.errno == 28, error
pathlib.Path('part0').unlink()
pathlib.Path('sub').mkdir()
pathlib.Path('sub/result').write_text('done')
print(json.dumps([many, os.getcwd(), pathlib.Path('sub/result').read_text()]))
"""
    for directory in (workdir, outside / "work"):
        directory.mkdir(exist_ok=True)
        limited = {"private": True, "scratch_bytes": 1 << 20}
        said = run(source, Level.NAMESPACES, directory=directory, **limited).said
        assert 1 <= said[0] <= 4
        assert said[1:] == [str(directory), "done"]
        assert list(directory.iterdir()) == []


@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
@pytest.mark.parametrize("level", LEVELS)
def test_a_compiler_works_inside(run: Run, workdir: Path, level: Level) -> None:
    source = """
import ctypes, json, pathlib, subprocess
pathlib.Path('a.cpp').write_text('extern "C" int answer() { return 42; }')
subprocess.run(['g++', '-shared', '-fPIC', 'a.cpp', '-o', 'a.so'], check=True)
print(json.dumps(ctypes.CDLL('./a.so').answer()))
"""
    assert run(source, level).said == 42
    assert stat.S_ISREG((workdir / "a.so").stat().st_mode)


@pytest.mark.parametrize("level", LEVELS)
def test_modules_can_still_be_imported(run: Run, level: Level) -> None:
    source = """
import json, sys
assert 'numpy' not in sys.modules and 'sqlite3' not in sys.modules
import numpy, sqlite3
import harness.sandbox._probe
print(json.dumps(int(numpy.arange(4).sum())))
"""
    assert run(source, level).said == 6


@pytest.mark.parametrize("level", FILE_LEVELS)
def test_nothing_runs_with_another_users_rights(run: Run, level: Level) -> None:
    source = """
import json, os
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines()
              if ':\\t' in line)
print(json.dumps([status[n] for n in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb', 'NoNewPrivs')]))
"""
    *capabilities, no_new_privileges = run(source, level).said
    assert {int(value, 16) for value in capabilities} == {0}
    assert no_new_privileges == "1"


def test_runtime_paths_do_not_open_the_home_directory_or_everything() -> None:
    assert not {Path("/"), Path("/tmp"), Path("/dev"), Path(os.path.expanduser("~"))} & set(
        runtime_paths()
    )


@pytest.mark.skipif(available() is not Level.NAMESPACES, reason="needs a mount namespace")
def test_mounts_become_read_only_one_by_one_where_the_kernel_cannot_do_all_at_once() -> None:
    source = """
import os
from harness.sandbox import _namespaces, _syscalls
from pathlib import Path
_namespaces.enter()
_syscalls.unshare(_syscalls.CLONE_NEWNS)
_syscalls.mount(None, Path('/'), flags=_syscalls.MS_REC | _syscalls.MS_PRIVATE)
_namespaces.make_each_read_only()
mounts = [line.split()[4:6] for line in open('/proc/self/mountinfo')]
reachable = [path for path, _ in mounts if os.path.exists(path)]
assert len(reachable) > 3
assert all(os.statvfs(path).f_flag & os.ST_RDONLY for path in reachable), mounts
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", source], cwd=root, check=True)


@pytest.mark.skipif(available() is not Level.NAMESPACES, reason="needs a mount namespace")
def test_a_masked_proc_that_cannot_be_replaced_is_no_way_out(outside: Path) -> None:
    """As in a container: the kernel refuses a new /proc that would show what the old one hides."""
    source = """
import ctypes, json, os, subprocess, sys
from pathlib import Path
from harness.sandbox import Confinement, available, confine
from harness.sandbox import _namespaces, _syscalls
_namespaces.enter()
_syscalls.unshare(_syscalls.CLONE_NEWNS)
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
_syscalls.mount('proc', Path('/proc'), 'proc')
_syscalls.mount('tmpfs', Path('/proc/sys'), 'tmpfs', _syscalls.MS_RDONLY)
reports, status_fd = os.pipe()
if os.fork() == 0:
    confine(Confinement(workdir=Path(sys.argv[1]), status_fd=status_fd))
    try:
        _syscalls.mount('proc', Path('/proc'), 'proc')
    except OSError:
        pass
    open('/proc/self/comm', 'w').write('named')
    for path in ('/proc/sysrq-trigger', sys.argv[1] + '/../victim'):
        try:
            open(path, 'a').write('x')
            os._exit(9)
        except OSError:
            pass
    os._exit(0)
os.close(status_fd)
report = os.read(reports, 1000).decode()
assert available() == 'namespaces'
assert json.loads(report) == {'exit': 0}, report
"""
    root = Path(__file__).parents[2]
    (outside / "work").mkdir()
    subprocess.run([sys.executable, "-c", source, str(outside / "work")], cwd=root, check=True)
    assert (outside / "victim").read_text() == "intact"
