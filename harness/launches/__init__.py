"""The launch census: which kernels a process launches, how often, and from which file they come.

``native/launches.cpp`` stands between a process and the driver, ``preparation`` builds it once per
installation, ``table`` is the memory in which it notes launches: a worker maps it, the
oracle reads it, so that no Python of the worker answers for it.

Does not: judge what is launched (see ``harness.oracle.work``).
"""

from harness.launches.preparation import prepare as prepare
from harness.launches.table import MADE_AT_RUN_TIME as MADE_AT_RUN_TIME
from harness.launches.table import LaunchTable as LaunchTable
from harness.launches.table import Row as Row
from harness.launches.table import Wish as Wish
from harness.launches.table import is_loaded as is_loaded
from harness.launches.table import note as note
from harness.launches.table import settle as settle
