"""What a candidate's process may do, enforced by the kernel and applied by the process itself.

A worker is forked from a warm fork server, calls ``confine`` and only then runs what a model
wrote. Nothing is executed anew (bubblewrap would have to, at the price of importing torch again),
so the mechanisms are called directly: namespaces, mounts, Landlock, a seccomp filter, rlimits.

    LIMITS       rlimits, no_new_privs, no capabilities, own session, no sockets but Unix ones
    LANDLOCK     + writes only below the work directory, reads only where a runtime needs them
    NAMESPACES   + own processes, mounts, network and IPC; read-only root; private /tmp and /dev

It covers files, other processes, the network, and what outlives a worker. It does not cover
kernel and driver exploits, the device that a worker was given (``gpu=True``), the processor time
and the memory it uses (poll ``tree_usage``), nor how it talks to the supervisor.
"""

from harness.sandbox._confine import confine
from harness.sandbox._policy import Confinement, Level, runtime_paths
from harness.sandbox._probe import available, explain, require
from harness.sandbox._watch import Usage, die_with, kill_tree, tree_usage

__all__ = [
    "Confinement",
    "Level",
    "Usage",
    "available",
    "confine",
    "die_with",
    "explain",
    "kill_tree",
    "require",
    "runtime_paths",
    "tree_usage",
]
