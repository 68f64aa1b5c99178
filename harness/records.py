"""The records of a judgement, and the closed vocabularies they are written in.

A record cannot lie: validators tie the parts that are present to the verdict,
a speedup is computed from two stored latencies and stored nowhere, and a
timing exists only where values (and gradients, unless the policy waives them)
passed on a device that can be clocked.

Does not: judge, measure, or touch a tensor. Imports pydantic and the base of all records.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationInfo, computed_field, field_validator, model_validator

from harness._record import Record as Record
from harness._speed import Latency as Latency
from harness._speed import Mode as Mode
from harness._speed import Speedup as Speedup
from harness._speed import Telemetry as Telemetry

SCHEMA_VERSION: Final = 1


class Stage(StrEnum):
    """The stages of a judgement, in the order in which they run (time last: it must be earned)."""

    EXTRACT = "extract"
    SCREEN = "screen"
    BUILD = "build"
    LOAD = "load"
    INTERFACE = "interface"
    SHAPE = "shape"
    VALUES = "values"
    GRADIENTS = "gradients"
    AUDIT = "audit"
    TIME = "time"


class Verdict(StrEnum):
    """What a candidate is worth; every evaluation ends in exactly one of these."""

    PASSED = "passed"
    NO_CODE = "no_code"
    SYNTAX_ERROR = "syntax_error"
    REJECTED = "rejected"
    BUILD_FAILED = "build_failed"
    LOAD_FAILED = "load_failed"
    WRONG_INTERFACE = "wrong_interface"
    WRONG_SHAPE = "wrong_shape"
    WRONG_VALUES = "wrong_values"
    WRONG_GRADIENTS = "wrong_gradients"
    RUNTIME_ERROR = "runtime_error"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    RACY = "racy"
    TAMPERED = "tampered"
    UNSUPPORTED = "unsupported"


_STAGES = {
    Verdict.PASSED: {Stage.AUDIT, Stage.TIME},
    Verdict.NO_CODE: {Stage.EXTRACT},
    Verdict.SYNTAX_ERROR: {Stage.SCREEN},
    Verdict.REJECTED: {Stage.SCREEN, Stage.AUDIT},
    Verdict.BUILD_FAILED: {Stage.BUILD, Stage.LOAD, Stage.INTERFACE},
    Verdict.LOAD_FAILED: {Stage.LOAD},
    Verdict.WRONG_INTERFACE: {Stage.INTERFACE},
    Verdict.WRONG_SHAPE: {Stage.SHAPE, Stage.GRADIENTS},
    Verdict.WRONG_VALUES: {Stage.VALUES, Stage.TIME},
    Verdict.WRONG_GRADIENTS: {Stage.GRADIENTS, Stage.TIME},
}
"""The stages at which a verdict can be reached, where that is restricted."""


class Severity(StrEnum):
    """How much a finding weighs: an error stops the pipeline, the others inform."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Place(Record):
    """Where something stands in the candidate's own text; lines and columns count from 1."""

    line: Annotated[int, Field(ge=1)]
    """First line."""
    column: Annotated[int, Field(ge=1)] | None = None
    """First column, where known."""
    end_line: Annotated[int, Field(ge=1)] | None = None
    """Last line, where the place spans several."""


_COMMANDS = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    - {ord("\n"), ord("\t")},
    "\ufffd",
)
"""Characters that a terminal obeys, or that turn the order of others round."""


def harmless(text: str) -> str:
    """A candidate's text, so that it cannot steer the terminal that it is shown on."""
    return text.translate(_COMMANDS)


class Finding(Record):
    """One observation about a candidate."""

    rule: Annotated[str, Field(pattern=r"^(R(0[1-9]|1[0-2])|[a-z]+(\.[a-z0-9_]+)+)$")]
    """A rule of the task (``R01`` … ``R12``) or a check of ours (``build.compiler``)."""
    severity: Severity
    """How much it weighs."""
    stage: Stage
    """The stage that observed it."""
    message: Annotated[str, Field(min_length=1, max_length=4000)]
    """What is so, in one or two sentences."""
    advice: Annotated[str, Field(max_length=4000)] = ""
    """What to do next."""
    place: Place | None = None
    """Where in the candidate, if it can be said."""
    detail: Annotated[str, Field(max_length=16000)] = ""
    """Supporting text, such as a compiler's message or the tail of a traceback."""

    @field_validator("message", "advice", "detail", mode="before")
    @classmethod
    def _long_text_is_cut(cls, text: object, info: ValidationInfo) -> object:
        """What a candidate says ends up here: however long it is, it must not break a record."""
        longest = 16000 if info.field_name == "detail" else 4000
        return harmless(text[:longest]) if isinstance(text, str) else text


class TensorRole(StrEnum):
    """What a compared tensor is to the problem."""

    OUTPUT = "output"
    GRAD_INPUT = "grad_input"
    GRAD_PARAMETER = "grad_parameter"
    INPUT = "input"
    BUFFER = "buffer"


class Norms(Record):
    """Distances from the float64 values, all relative and dimensionless.

    A NaN or an infinity that the float64 values do not have counts as infinitely far.
    """

    relative_l2: Annotated[float, Field(ge=0)]
    """‖got − expected‖₂ / ‖expected‖₂."""
    maximum: Annotated[float, Field(ge=0)]
    """max |got − expected| / rms(expected)."""
    tile: Annotated[float, Field(ge=0)]
    """Worst tile of 256 neighbouring elements: rms(got − expected) / rms(expected)."""

    def within(self, budget: Norms) -> bool:
        """Whether every norm is at most its budget (NaN is never within)."""
        return (
            self.relative_l2 <= budget.relative_l2
            and self.maximum <= budget.maximum
            and self.tile <= budget.tile
        )


class Worst(Record):
    """The element that is furthest off."""

    index: tuple[int, ...]
    """Its index in the tensor."""
    got: float
    """The candidate's value."""
    expected: float
    """The float64 value."""


class Comparison(Record):
    """One tensor of one trial against its float64 values."""

    tensor: str
    """Name: ``output``, ``output[1]``, ``grad of weight`` …"""
    role: TensorRole
    """What it is to the problem."""
    shape: tuple[int, ...]
    """Its shape."""
    error: Norms
    """The candidate's distance."""
    reference_error: Norms
    """The distance that the reference itself has in the problem's declared precision."""
    budget: Norms
    """The largest distance that passes."""
    worst: Worst | None = None
    """The element furthest off, where the comparison failed."""

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether the error is within its budget."""
        return self.error.within(self.budget)


class Trial(Record):
    """One correctness check: one case, one draw of inputs and weights, one seed."""

    case: str
    """Name of the case."""
    draw: str
    """Which distribution and layout the inputs had."""
    seed: int
    """Seed of the draw, chosen after the candidates of the batch were read."""
    comparisons: tuple[Comparison, ...]
    """Every tensor that was compared."""

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether every comparison passed (a trial without comparisons has not)."""
        return bool(self.comparisons) and all(c.passed for c in self.comparisons)

    @property
    def has_gradients(self) -> bool:
        """Whether a gradient was among what was compared."""
        roles = TensorRole.GRAD_INPUT, TensorRole.GRAD_PARAMETER
        return any(c.role in roles for c in self.comparisons)


class DeviceKind(StrEnum):
    """The kinds of device; only ``cuda`` and ``cpu`` can be clocked."""

    CUDA = "cuda"
    CPU = "cpu"
    EMULATED = "emulated"


class Device(Record):
    """The device and software that judged."""

    kind: DeviceKind
    """Which kind of device."""
    name: str
    """Its marketing name."""
    index: Annotated[int, Field(ge=0)] = 0
    """Its index on this host."""
    driver: str = ""
    """Driver version, empty on the CPU."""
    torch: str
    """PyTorch version."""
    cuda: str = ""
    """CUDA version PyTorch was built with, empty without."""
    architecture: str = ""
    """``sm_90``, or the machine's architecture on the CPU."""

    @property
    def fingerprint(self) -> str:
        """The part of a device that makes latencies comparable."""
        return "|".join((self.kind, self.name, self.driver, self.torch, self.cuda))


class Route(StrEnum):
    """How an extension was built: taken from the store, with prepared headers, or as torch does."""

    KEPT = "kept"
    FAST = "fast"
    STOCK = "stock"


class Build(Record):
    """One extension that the compilers had their say on, whether they made it or not."""

    extension: Annotated[str, Field(min_length=1)]
    """Name of the extension."""
    route: Route
    """How it was built."""
    reason: Annotated[str, Field(max_length=500)] = ""
    """Why it was built the stock way, and empty where it was not."""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """How long the build took."""
    preparing_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Spent before that on preparing torch's headers, once for this installation."""

    @model_validator(mode="after")
    def _only_stock_builds_need_a_reason(self) -> Self:
        if bool(self.reason) != (self.route is Route.STOCK):
            raise ValueError(f"a {self.route} build with the reason {self.reason!r}")
        return self


class GradientPolicy(StrEnum):
    """Whether gradients are part of the judgement."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    OFF = "off"


class Tf32Policy(StrEnum):
    """Whether TF32 is within the declared precision of a problem."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"


class WorkPolicy(StrEnum):
    """What PyTorch may compute between inputs and outputs, besides moving and filling memory."""

    LENIENT = "lenient"
    """A sum, an addition or a product with a number (a bias's gradient, say), while it takes less
    than half of the device's time."""
    STRICT = "strict"
    """Nothing."""


class Origin(StrEnum):
    """Where a kernel's code comes from."""

    OWN = "own"
    """A file of the candidate's, or code that one of them made."""
    PYTORCH = "pytorch"
    LIBRARY = "library"
    """A vendor's library: cuBLAS, cuDNN and the like."""
    UNKNOWN = "unknown"


class Kernel(Record):
    """One kernel that the device ran in the audit."""

    name: str
    """As its compiler mangled it, shortened."""
    origin: Origin
    """Where it comes from."""
    launches: Annotated[int, Field(ge=1)]
    """How often it was launched."""
    milliseconds: Annotated[float, Field(ge=0)]
    """Of the device's time, all launches together; of a graph, the whole under its last kernel."""


class Policy(Record):
    """The terms of the judgement."""

    gradients: GradientPolicy = GradientPolicy.REQUIRED
    """Whether a backward is required."""
    tf32: Tf32Policy = Tf32Policy.FORBIDDEN
    """Applied to the reference, the baseline and the error budget alike."""
    work: WorkPolicy = WorkPolicy.LENIENT
    """What PyTorch may compute."""
    sandbox: str
    """What held the candidate's process (see ``sandbox``)."""


class Gradients(StrEnum):
    """What came of the gradients."""

    NOT_REACHED = "not_reached"
    CHECKED = "checked"
    ABSENT = "absent"
    WAIVED = "waived"


class Fingerprints(Record):
    """SHA-256 of the texts a judgement was made from."""

    generation: str
    """The raw text as it came."""
    candidate: str | None = None
    """The code extracted from it, if any was."""
    problem: str
    """The problem file."""


class Evaluation(Record):
    """The full record of one candidate on one problem."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this schema."""
    harness_version: str
    """Version of the harness that judged."""
    generation: str
    """Name of the generation (its file's path, as given)."""
    problem: str
    """Name of the problem."""
    fingerprints: Fingerprints
    """What exactly was judged."""
    verdict: Verdict
    """What the candidate is worth."""
    stage: Stage
    """The stage at which the verdict was reached."""
    device: Device
    """Where it was judged."""
    policy: Policy
    """On which terms."""
    findings: tuple[Finding, ...] = ()
    """Everything observed, errors first."""
    builds: tuple[Build, ...] = ()
    """Every extension that was built, in the order in which the candidate asks for them."""
    gradients: Gradients = Gradients.NOT_REACHED
    """What came of the gradients."""
    trials: tuple[Trial, ...] = ()
    """Every correctness check."""
    speedups: tuple[Speedup, ...] = ()
    """Every clocked mode."""
    launches: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Launches per kernel in one forward and backward (emulated device only)."""
    kernels: tuple[Kernel, ...] = ()
    """What ran in the audit's two forwards and backwards of the clocked case (GPU only)."""
    stage_seconds: dict[Stage, float] = Field(default_factory=dict)
    """Seconds spent in each stage that ran."""
    builder_wait_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds after screening in which every builder was busy with others."""
    device_wait_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds in which it was ready, and every device that might judge it was not."""
    wall_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds from the first look at the text to the verdict (0: not recorded)."""
    started_at: str = ""
    """UTC time at which the judgement began, ISO 8601."""

    @computed_field
    @property
    def other_seconds(self) -> float:
        """What neither a stage nor a wait accounts for.

        Processes that start, the problem's load on the device, tries that failed.
        """
        known = sum(self.stage_seconds.values())
        known += self.builder_wait_seconds + self.device_wait_seconds
        return max(0.0, self.wall_seconds - known)

    @property
    def passed(self) -> bool:
        """Whether the verdict is ``passed``."""
        return self.verdict is Verdict.PASSED

    def speedup(self, mode: Mode) -> Speedup | None:
        """The eager measurement of one mode, if it was clocked."""
        return next((s for s in self.speedups if s.mode is mode and s.baseline == "eager"), None)

    @model_validator(mode="after")
    def _verdict_and_stage_agree(self) -> Self:
        allowed = _STAGES.get(self.verdict)
        if allowed is not None and self.stage not in allowed:
            raise ValueError(f"{self.verdict} cannot be reached at stage {self.stage}")
        if (self.verdict is Verdict.NO_CODE) != (self.fingerprints.candidate is None):
            raise ValueError("no_code means that there is no candidate, and nothing else does")
        if self.builds and self.stage in (Stage.EXTRACT, Stage.SCREEN):
            raise ValueError(f"an extension was built, yet all ended at stage {self.stage}")
        return self

    @model_validator(mode="after")
    def _verdict_and_findings_agree(self) -> Self:
        errors = [f for f in self.findings if f.severity is Severity.ERROR]
        if self.passed and errors:
            raise ValueError(f"passed, yet with an error: {errors[0].message}")
        if not self.passed and not errors:
            raise ValueError(f"{self.verdict} without a finding that says why")
        return self

    @model_validator(mode="after")
    def _verdict_and_trials_agree(self) -> Self:
        if self.passed and not (self.trials and all(t.passed for t in self.trials)):
            raise ValueError("passed without trials that all passed")
        if self.passed and self.gradients is Gradients.NOT_REACHED:
            raise ValueError("passed, but nothing is said about gradients")
        required = self.policy.gradients is GradientPolicy.REQUIRED
        if self.passed and required and self.gradients is Gradients.ABSENT:
            raise ValueError("gradients are required, but there are none")
        if self.gradients is Gradients.CHECKED and not any(t.has_gradients for t in self.trials):
            raise ValueError("gradients said to be checked, but no gradient was compared")
        return self

    @model_validator(mode="after")
    def _timing_is_earned(self) -> Self:
        if self.speedups and not self.passed:
            raise ValueError(f"a timing beside the verdict {self.verdict}")
        emulated = self.device.kind is DeviceKind.EMULATED
        if emulated and (self.speedups or self.stage is Stage.TIME):
            raise ValueError("an emulated device has no timing")
        if self.launches and not emulated:
            raise ValueError("launches are counted on the emulated device only")
        if self.kernels and self.device.kind is not DeviceKind.CUDA:
            raise ValueError("kernels are taken down on a GPU only")
        if emulated and self.passed and not self.launches:
            raise ValueError("passed without a kernel of its own")
        backward = any(s.mode is not Mode.FORWARD for s in self.speedups)
        if backward and self.gradients is not Gradients.CHECKED:
            raise ValueError("a backward was clocked that was not checked")
        return self


def finite_or_huge(value: float) -> float:
    """JSON has no NaN or infinity; a distance that is either is stored as 1e308."""
    return value if math.isfinite(value) else 1e308
