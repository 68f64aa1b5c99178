"""What outlives a process: the evaluations of a run, a device's baselines and its calibration.

A run is a directory with one JSON line per generation, flushed to disk as it
ends. A line that a kill cut short is dropped when the run is resumed. Beside it lie
``faults.jsonl``, and ``sessions.jsonl`` with a line per process that worked on the run.

Does not: judge, or hold anything in memory that is not on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from harness.calibration import Allowances, Calibration
from harness.errors import RunError
from harness.records import Device, Evaluation, Record, Speedup
from harness.settings import Settings
from harness.timings import Session


class Fault(Record):
    """A generation that could not be judged through a failure of ours; never scored."""

    generation: str
    problem: str
    text: str


class Run:
    """A run directory, open for adding; one process at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(directory / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(f"{directory}: another process is writing to this run") from error
        except OSError as error:
            raise RunError(f"{directory}: a run cannot be written here: {error}") from error
        self._path = directory / "evaluations.jsonl"
        try:
            self.evaluations = self._recover()
            self.sessions = _read_sessions(directory / "sessions.jsonl")
            self._keys = {_key(e) for e in self.evaluations}
            self._file = self._path.open("ab")
        except BaseException:
            self._lock.release()
            raise

    def add(self, evaluation: Evaluation) -> None:
        """Append one evaluation; it is on disk when this returns."""
        self._file.write(evaluation.model_dump_json().encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.evaluations.append(evaluation)
        self._keys.add(_key(evaluation))

    def add_fault(self, fault: Fault) -> None:
        """Note a failure of ours; the generation stays open and is tried again on resume."""
        with (self.directory / "faults.jsonl").open("ab") as file:
            file.write(fault.model_dump_json().encode() + b"\n")

    def add_session(self, session: Session) -> None:
        """Note what this process did, when it is done or gives up."""
        with (self.directory / "sessions.jsonl").open("ab") as file:
            file.write(session.model_dump_json().encode() + b"\n")
        self.sessions.append(session)

    def done(self, generation: str, problem: str, sha256: str) -> bool:
        """Whether this very text was judged on this problem before."""
        return (generation, problem, sha256) in self._keys

    def close(self) -> None:
        """Let go of the run."""
        self._file.close()
        self._lock.release()

    def _recover(self) -> list[Evaluation]:
        """Read what is there, and cut off a last line that was never finished."""
        if not self._path.exists():
            return []
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self._path, len(whole))
        return read_evaluations(self._path)


def _read_sessions(path: Path) -> list[Session]:
    """The sessions of a run; a line that a kill cut short is none."""
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValidationError):
            found.append(Session.model_validate_json(line))
    return found


def _key(evaluation: Evaluation) -> tuple[str, str, str]:
    return evaluation.generation, evaluation.problem, evaluation.fingerprints.generation


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations of a JSONL file.

    Raises:
        RunError: a line is not an evaluation of this version.
    """
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(Evaluation.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise RunError(f"{path}, line {number}: not an evaluation: {first}") from error
    return found


class Baseline(Record):
    """What a device makes of a problem: the reference compiled, and the vetted solution."""

    problem: str
    problem_sha256: str
    device: Device
    harness_version: str
    measured_at: str
    """UTC, ISO 8601."""
    speedups: dict[str, tuple[Speedup, ...]] = Field(default_factory=dict)
    """``eager`` (the reference against itself), ``compiled`` and ``solution``, each over eager."""
    failures: dict[str, str] = Field(default_factory=dict)
    """What could not be clocked, and why."""


class BaselineStore:
    """Baselines below one folder, by problem and device."""

    def __init__(self, cache_dir: Path) -> None:
        self._root = cache_dir / "baselines"

    def save(self, baseline: Baseline) -> Path:
        """Keep a baseline in place of an older one; its path."""
        return _replace(self._path(baseline.problem_sha256, baseline.device), baseline)

    def find(self, problem_sha256: str, device: Device) -> Baseline | None:
        """The baseline of this problem on such a device, if one was measured."""
        try:
            return Baseline.model_validate_json(self._path(problem_sha256, device).read_text())
        except (FileNotFoundError, ValueError):  # one that cannot be read is measured again
            return None

    def _path(self, problem_sha256: str, device: Device) -> Path:
        return self._root / _name(device) / f"{problem_sha256[:16]}.json"


class CalibrationStore:
    """Calibrations below one folder, one for each kind of device and its software."""

    def __init__(self, cache_dir: Path) -> None:
        self._root = cache_dir / "calibrations"

    def save(self, calibration: Calibration) -> Path:
        """Keep a calibration in place of an older one; its path."""
        return _replace(self._path(calibration.device), calibration)

    def find(self, device: Device) -> Calibration | None:
        """The calibration of such a device, if there is one that can be read."""
        with contextlib.suppress(OSError, ValidationError):
            return Calibration.model_validate_json(self._path(device).read_text())
        return None

    def _path(self, device: Device) -> Path:
        return self._root / f"{_name(device)}.json"


def allowances_of(device: Device, settings: Settings) -> Allowances:
    """What the clock is allowed on a device: as calibrated there, or the defaults."""
    found = CalibrationStore(settings.cache_dir).find(device)
    return found.allowances if found else Allowances()


def _name(device: Device) -> str:
    """Of a kind of device and its software, as a file may be called."""
    return hashlib.sha256(device.fingerprint.encode()).hexdigest()[:16]


def _replace(path: Path, record: Record) -> Path:
    """Write a record in place of an older one, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(record.model_dump_json(indent=1))
    new.replace(path)
    return path
