"""A small single-threaded process that forks one confined child, as the fork server does.

Run by ``conftest.start``: argv[1] describes the confinement and holds the source to execute in the
confined process; argv[2] is the descriptor on which the child's pid and its end are reported.
"""

import json
import os
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from harness.sandbox import Confinement, Level, available, confine

spec = json.loads(sys.argv[1])
control = int(sys.argv[2])
names = {"parameters": spec["parameters"]}


def confined(status_fd: int) -> None:
    given = {
        **spec["confinement"],
        "workdir": Path(spec["workdir"]),
        "hidden": tuple(map(Path, spec["hidden"])),
        "max_level": Level(spec["level"]),
        "status_fd": status_fd,
        "keep_fds": tuple(names["keep"]) if "keep" in names else None,
    }
    if spec["readable"] is not None:
        given["readable"] = tuple(map(Path, spec["readable"]))
    names["level"] = confine(Confinement(**given))
    exec(spec["source"], names)


def tell(**record: object) -> None:
    os.write(control, json.dumps(record).encode() + b"\n")


exec(spec["before"], names)
available()  # found once, before any fork
read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    code = 1
    try:
        confined(write_end)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
os.close(write_end)
tell(pid=child)
with open(read_end) as reports:
    report = reports.read()
_, status = os.waitpid(child, 0)
exec(spec["after"], names)
tell(report=report, caller=os.waitstatus_to_exitcode(status))
