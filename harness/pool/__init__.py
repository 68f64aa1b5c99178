"""A batch: every generation of a directory, prepared on the CPU cores while devices judge.

Some threads read texts, several build, and each device has a station that judges one
candidate at a time, so nothing else of ours runs on it while it clocks. Every evaluation
is on disk as soon as it ends, and a batch that was killed goes on where it stopped.
``docs/design/pipeline.md`` gives the reasons.

    batches     what a caller asks for, and gets
    pipeline    the threads, and the run's files
    station     one device: its lease, its judgements, its health
    shelf       which ready candidate a device judges next (no threads)
    ready       the shelf, shared by threads
    events      what a progress display is told

Does not: print (see ``report``), or score a failure of ours.
"""

from harness.pool.batches import Batch, batch
from harness.pool.events import Event, Watch

__all__ = ["Batch", "Event", "Watch", "batch"]
