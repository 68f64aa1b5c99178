"""A process that launches kernels of two files by every way that there is, under the census.

    python process.py DRIVER MINE THEIRS

Reads one word per line: ``count``, ``ignore``, ``without_own``, or a way to launch a kernel of one
of the files, such as ``dlsym mine``. Prints what the driver saw and the table as JSON at the end.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import asdict

from harness import launches

WISHES = {
    "count": launches.Wish.COUNTED,
    "ignore": launches.Wish.NOTHING,
    "without_own": launches.Wish.COUNTED | launches.Wish.WITHOUT_OWN,
}
_GRID = [ctypes.c_uint(1)] * 6


def kernel_of(driver: ctypes.CDLL, file: str) -> ctypes.c_void_p:
    """A kernel whose code lies in a file."""
    image = ctypes.CDLL(file).image
    library, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    none = ctypes.c_void_p()
    zero = ctypes.c_uint(0)
    driver.cuLibraryLoadData(ctypes.byref(library), image, none, none, zero, none, none, zero)
    driver.cuLibraryGetKernel(ctypes.byref(kernel), library, b"kernel")
    return kernel


def launch(driver: ctypes.CDLL, way: str, kernel: ctypes.c_void_p) -> None:
    """Launch once."""
    none = ctypes.c_void_p()
    rest = (kernel, *_GRID, ctypes.c_uint(0), none, none, none)
    if way == "dlsym":
        driver.cuLaunchKernel(*rest)
    elif way == "asked":
        found = ctypes.c_void_p()
        status = ctypes.c_int()
        flags = ctypes.c_uint64(0)
        where = ctypes.byref(found)
        driver.cuGetProcAddress_v2(b"cuLaunchKernel", where, 13000, flags, ctypes.byref(status))
        kinds = [ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3]
        ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(found.value or 0)(*rest)
    elif way == "linked":
        ctypes.CDLL(sys.argv[2]).launch_linked(kernel)
    elif way == "graph":
        executable = ctypes.c_void_p()
        driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), kernel, ctypes.c_ulonglong(0))
        driver.cuGraphLaunch(executable, none)


def main() -> None:
    """Do what standard input says."""
    driver = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
    table = launches.LaunchTable(os.path.dirname(sys.argv[2]) + "/")
    launches.note(os.dup(table.fd))
    kernels = {"mine": kernel_of(driver, sys.argv[2]), "theirs": kernel_of(driver, sys.argv[3])}
    for line in sys.stdin:
        word, *whose = line.split()
        if whose:
            launch(driver, word, kernels[whose[0]])
        else:
            table.wish(WISHES[word])
    reached = ctypes.c_int.in_dll(driver, "reached").value
    rows = [asdict(row) | {"own": table.is_own(row)} for row in table.rows()]
    print(json.dumps({"reached": reached, "rows": rows}))


if __name__ == "__main__":
    main()
