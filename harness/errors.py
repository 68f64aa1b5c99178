"""Every exception the harness raises on purpose.

    HarnessError
    ├── UsageError              the caller can fix it (exit code 2)
    │   ├── ProblemError        a problem file that is broken or missing
    │   ├── GenerationError     a generation file that cannot be read
    │   ├── ManifestError       a batch whose files cannot be mapped to problems
    │   └── RunError            a run directory that cannot be written or resumed
    └── HarnessFault            our failure, never a verdict (exit code 3)
        ├── OracleFault         the trusted process failed or died
        ├── ForkServerFault     the process that makes workers failed or died
        ├── ReaderFault         a process that reads texts failed (not: a text took too much)
        ├── BuildFault          the build tools themselves could not run
        ├── PreparationFault    the emulated device could not be built
        └── DeviceFault         the device failed a health check

What a candidate does wrong is never an exception here: it is a verdict with
findings (see ``records``).
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of everything the harness raises on purpose."""


class UsageError(HarnessError):
    """The request cannot be carried out as it was made; the message says what to change."""


class ProblemError(UsageError):
    """A problem file is missing, broken, or lacks a part that the format requires."""


class GenerationError(UsageError):
    """A generation file cannot be read as text."""


class ManifestError(UsageError):
    """A generation of a batch cannot be mapped to a problem."""


class RunError(UsageError):
    """A run directory cannot be written, or belongs to another batch."""


class HarnessFault(HarnessError):
    """Our own failure: raised, reported, retried, and never scored."""


class OracleFault(HarnessFault):
    """The oracle, the trusted process of a device, failed or died."""


class ForkServerFault(HarnessFault):
    """The fork server, which makes workers, failed or died."""


class ReaderFault(HarnessFault):
    """A process that extracts and screens texts failed, and not by the text's doing."""


class BuildFault(HarnessFault):
    """The build tools themselves could not run (not: the candidate does not compile)."""


class PreparationFault(HarnessFault):
    """Something that an installation prepares once could not be made."""


class DeviceFault(HarnessFault):
    """The device does not answer as a healthy one does."""
