"""``confine``: as strongly as this machine allows, and no more strongly than asked for."""

from __future__ import annotations

from harness.sandbox._policy import Confinement, Level
from harness.sandbox._probe import available
from harness.sandbox._processes import confine_at


def confine(confinement: Confinement) -> Level:
    """Confines the calling process and returns in a confined grandchild of it only.

    To be called in a freshly forked, single-threaded child whose descriptors 1 and 2 lead
    somewhere harmless. The caller itself waits, reports on ``status_fd`` how the confined process
    ended, when nothing of it is left, and exits; killing the caller kills the confined process.
    In the confined process signal handlers are back at their defaults and standard input is empty.

    Returns:
        The level in force. A mechanism that worked when it was probed and now fails is a fault,
        reported on ``status_fd``; there is no falling back to a weaker level.
    """
    return confine_at(confinement, confinement.max_level.weaker_of(available()))
