"""Prompts: what a model is told, what it must not be told, and that no fence is broken."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.prompting import (
    MOST_FINDINGS,
    Hardware,
    fenced,
    hardware_of,
    public_part,
    render_feedback,
    render_task,
)
from harness.records import (
    Comparison,
    Device,
    DeviceKind,
    Evaluation,
    Finding,
    Fingerprints,
    Gradients,
    Latency,
    Mode,
    Norms,
    Place,
    Policy,
    Severity,
    Speedup,
    Stage,
    TensorRole,
    Trial,
    Verdict,
    Worst,
)
from harness.resources import bundled


@dataclass(frozen=True)
class Rule:
    id: str
    text: str


RULES = [Rule(f"R{number:02}", f"sentence {number} of the rules") for number in range(1, 13)]
REFERENCE = "import torch\n\n\nclass Model(torch.nn.Module):\n    pass\n"
CANDIDATE = "import torch\n\nclass ModelNew:\n    x = undefined_name\n"
H100 = Device(kind=DeviceKind.CUDA, name="NVIDIA H100 80GB HBM3", torch="2", architecture="sm_90")
ZERO = Norms(relative_l2=0, maximum=0, tile=0)
BUDGET = Norms(relative_l2=1e-4, maximum=1e-3, tile=3e-4)

texts = st.text(alphabet=st.sampled_from("`~ab\n #{}%"), max_size=60)


def parts(markdown: str) -> tuple[str, list[str]]:
    """The text outside fences, and each fenced block, by CommonMark's rule for backticks."""
    outside: list[str] = []
    blocks: list[str] = []
    block: list[str] | None = None
    fence = ""
    for line in markdown.split("\n"):
        if block is None:
            if opening := re.match(r"(`{3,})\w*$", line):
                block, fence = [], opening.group(1)
            else:
                outside.append(line)
        elif (closing := re.fullmatch(r" {0,3}(`{3,})\s*", line)) and closing.group(1) >= fence:
            blocks.append("\n".join(block))
            block = None
        else:
            block.append(line)
    assert block is None, "a fence was left open"
    return "\n".join(outside), blocks


def fenced_blocks(markdown: str) -> list[str]:
    return parts(markdown)[1]


def finding(
    message: str = "it is so", severity: Severity = Severity.ERROR, **kwargs: object
) -> Finding:
    values = {"rule": "R09", "stage": Stage.SCREEN, "severity": severity, "message": message}
    return Finding(**(values | kwargs))  # type: ignore[arg-type]


def trial(error: Norms, role: TensorRole = TensorRole.OUTPUT, worst: Worst | None = None) -> Trial:
    compared = Comparison(
        tensor="output",
        role=role,
        shape=(7, 3),
        error=error,
        reference_error=ZERO,
        budget=BUDGET,
        worst=worst,
    )
    return Trial(case="odd_sizes", draw="strided", seed=987654321, comparisons=(compared,))


def speedup(mode: Mode, reference: float, candidate: float, spread: float = 0.01) -> Speedup:
    def latency(ms: float) -> Latency:
        return Latency(milliseconds=ms, fastest=ms, slowest=ms, samples=9)

    ratio = reference / candidate
    return Speedup(
        mode=mode,
        reference=latency(reference),
        candidate=latency(candidate),
        low=ratio * (1 - spread),
        high=ratio * (1 + spread),
        pairs=9,
        outer_reference_ms=reference,
        outer_candidate_ms=candidate,
        outputs_judged=3,
    )


def evaluation(verdict: Verdict, stage: Stage, **kwargs: object) -> Evaluation:
    no_code = verdict is Verdict.NO_CODE
    values: dict[str, object] = {
        "harness_version": "0",
        "generation": "answer.md",
        "problem": "softmax",
        "fingerprints": Fingerprints(
            generation="0", candidate=None if no_code else "0", problem="0"
        ),
        "verdict": verdict,
        "stage": stage,
        "device": H100,
        "policy": Policy(sandbox="none"),
        "findings": () if verdict is Verdict.PASSED else (finding(stage=stage),),
    }
    return Evaluation(**(values | kwargs))  # type: ignore[arg-type]


def passed(*speedups: Speedup) -> Evaluation:
    return evaluation(
        Verdict.PASSED,
        Stage.AUDIT,
        gradients=Gradients.CHECKED,
        trials=(trial(ZERO), trial(ZERO, TensorRole.GRAD_INPUT)),
        speedups=speedups,
    )


# ---- fences -----------------------------------------------------------------------------------


@given(texts)
def test_a_fence_holds_whatever_text_it_is_given(text: str) -> None:
    assert fenced_blocks(fenced(text, "python")) == [text.rstrip()]


@given(texts, texts)
def test_no_reference_breaks_out_of_the_task(reference: str, name: str) -> None:
    task = render_task(name, reference, RULES, example=False)
    assert fenced_blocks(task) == [public_part(reference).rstrip()]


@given(texts, texts)
def test_no_finding_breaks_out_of_the_feedback(line: str, detail: str) -> None:
    said = finding(message="no\n\n# " + line, detail=detail, place=Place(line=2))
    candidate = "first\n" + line.replace("\n", " ") + "\nlast"
    text = render_feedback(evaluation(Verdict.REJECTED, Stage.SCREEN, findings=(said,)), candidate)
    outside, _ = parts(text)
    headings = [line for line in outside.split("\n") if line.startswith("#")]
    assert headings == [
        "# Verdict: rejected",
        "## What was found",
        headings[2],
        "## Now",
    ]
    assert headings[2].startswith("### 1. error, R09")


# ---- the task ---------------------------------------------------------------------------------


def test_the_task_states_every_rule_with_its_id() -> None:
    task = render_task("softmax", REFERENCE, RULES)
    for number, rule in enumerate(RULES, 1):
        assert f"{number}. **{rule.id}** {rule.text}" in task


def test_the_task_says_how_the_answer_is_judged() -> None:
    task = render_task("softmax", REFERENCE, RULES)
    for fact in ("float64", "Gradients", "not contiguous", "expanded", "training step", "odd"):
        assert fact in task


def test_the_task_asks_for_exactly_one_final_block() -> None:
    assert "**exactly one** final Python code block" in render_task("softmax", REFERENCE, RULES)


def test_the_example_can_be_left_out() -> None:
    with_example = fenced_blocks(render_task("softmax", REFERENCE, RULES))
    without = fenced_blocks(render_task("softmax", REFERENCE, RULES, example=False))
    assert len(with_example) == 3
    assert without == [REFERENCE.rstrip()]


def test_no_template_syntax_is_left_in_the_task() -> None:
    assert not re.search(
        r"\{[{%#]|[}%#]\}", render_task("softmax", REFERENCE, RULES, example=False)
    )


def test_braces_in_a_reference_are_text_and_not_template() -> None:
    assert "{{ 7 * 7 }}" in render_task("p", "x = '{{ 7 * 7 }}'\n", RULES, example=False)


def test_rules_may_carry_more_than_the_prompt_needs() -> None:
    @dataclass(frozen=True)
    class Titled(Rule):
        title: str

    assert "**R01** all" in render_task("p", REFERENCE, [Titled("R01", "all", "t")])


@pytest.mark.parametrize("part", ["reference", "answer"])
def test_the_worked_example_is_valid_python(part: str) -> None:
    source = (bundled("prompts") / "example" / f"{part}.py").read_text()
    classes = {n.name for n in ast.parse(source).body if isinstance(n, ast.ClassDef)}
    assert ("Model" if part == "reference" else "ModelNew") in classes


def test_the_worked_example_breaks_no_rule() -> None:
    screening = pytest.importorskip("harness.screening")
    answer = (bundled("prompts") / "example" / "answer.py").read_text()
    assert screening.screen(answer, None).findings == ()


# ---- the public part of a problem -------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted(bundled("reference_models").glob("*.py")), ids=lambda p: p.stem
)
def test_the_small_cases_of_a_problem_are_not_shown(path: Path) -> None:
    shown = public_part(path.read_text())
    names = {n.id for n in ast.walk(ast.parse(shown)) if isinstance(n, ast.Name)}
    assert "CASES" not in names
    assert "def forward_flops" not in shown
    for kept in ("class Model", "def get_inputs", "def get_init_inputs"):
        assert kept in shown


def test_private_helpers_stay_where_something_shown_uses_them() -> None:
    source = (
        "def _used():\n    return 1\n\n\ndef _unused():\n    return 2\n\n\n"
        "def get_inputs():\n    return [_used()]\n\n\nCASES = {'a': _unused()}\n"
    )
    shown = public_part(source)
    assert "def _used" in shown
    assert "_unused" not in shown


def test_a_plain_kernelbench_file_is_shown_as_it_is() -> None:
    assert public_part(REFERENCE) == REFERENCE


@given(texts)
def test_text_that_is_no_python_is_shown_as_it_is(text: str) -> None:
    assert public_part(text + "\n)(") == text + "\n)("


# ---- the hardware -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bandwidth", "shared"),
    [
        ("NVIDIA H100 80GB HBM3", 3350, 227),
        ("NVIDIA H100 PCIe", 2000, 227),
        ("NVIDIA A100-SXM4-80GB", 2039, 163),
        ("NVIDIA A100 80GB PCIe", 1935, 163),
        ("NVIDIA A100-SXM4-40GB", 1555, 163),
        ("NVIDIA A100-PCIE-40GB", 1555, 163),
        ("NVIDIA L40S", 864, 99),
        ("NVIDIA GeForce RTX 4090", 1008, 99),
    ],
)
def test_known_devices_are_known_by_the_driver_s_name(
    name: str, bandwidth: float, shared: float
) -> None:
    hardware = hardware_of(Device(kind=DeviceKind.CUDA, name=name, torch="2"))
    assert hardware is not None
    assert (hardware.bandwidth_gb_s, hardware.shared_memory_per_block_kb) == (bandwidth, shared)


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090 D", "NVIDIA H200", "NVIDIA L40", "AMD"])
def test_nothing_is_claimed_of_a_device_that_is_not_known(name: str) -> None:
    hardware = hardware_of(Device(kind=DeviceKind.CUDA, name=name, torch="2"))
    assert hardware == Hardware(name=name)


@pytest.mark.parametrize("kind", [DeviceKind.CPU, DeviceKind.EMULATED])
def test_only_a_real_gpu_has_hardware_facts(kind: DeviceKind) -> None:
    assert hardware_of(Device(kind=kind, name="NVIDIA H100 80GB HBM3", torch="2")) is None


def test_a_measured_figure_wins_over_the_datasheet_and_says_so() -> None:
    hardware = hardware_of(H100, {"bandwidth_gb_s": 2980.0})
    assert hardware is not None
    task = render_task("softmax", REFERENCE, RULES, hardware=hardware)
    assert "peak memory bandwidth: 2980 GB/s (measured on this device)" in task
    assert "3350" not in task
    assert "peak float32: 67 TFLOP/s\n" in task


def test_unknown_figures_are_left_out_of_the_task() -> None:
    new = Hardware(name="a new GPU")
    task = render_task("softmax", REFERENCE, RULES, example=False, hardware=new)
    assert "- GPU: a new GPU" in task
    assert "None" not in task
    assert "TFLOP" not in task


# ---- the feedback -----------------------------------------------------------------------------

EARLY = {
    Verdict.NO_CODE: Stage.EXTRACT,
    Verdict.SYNTAX_ERROR: Stage.SCREEN,
    Verdict.REJECTED: Stage.SCREEN,
    Verdict.BUILD_FAILED: Stage.BUILD,
    Verdict.LOAD_FAILED: Stage.LOAD,
    Verdict.WRONG_INTERFACE: Stage.INTERFACE,
    Verdict.WRONG_SHAPE: Stage.SHAPE,
    Verdict.WRONG_VALUES: Stage.VALUES,
    Verdict.WRONG_GRADIENTS: Stage.GRADIENTS,
}


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.PASSED])
def test_every_failing_verdict_has_a_turn_that_asks_for_a_correction(verdict: Verdict) -> None:
    text = render_feedback(evaluation(verdict, EARLY.get(verdict, Stage.VALUES)), CANDIDATE)
    assert text.startswith(f"# Verdict: {verdict}\n")
    assert "Correct the code" in text
    assert "exactly one final Python code block" in text


def test_a_finding_comes_with_rule_place_line_and_advice() -> None:
    said = finding(
        "The name is not defined.",
        place=Place(line=4),
        advice="Import it.",
        detail="NameError: undefined_name",
    )
    text = render_feedback(evaluation(Verdict.REJECTED, Stage.SCREEN, findings=(said,)), CANDIDATE)
    assert "### 1. error, R09, line 4" in text
    assert "    x = undefined_name" in fenced_blocks(text)
    assert "What to do: Import it." in text
    assert "NameError: undefined_name" in text


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_place_outside_the_candidate_is_no_reason_to_fail(line: int, end: int) -> None:
    said = finding(place=Place(line=line, end_line=end))
    render_feedback(evaluation(Verdict.REJECTED, Stage.SCREEN, findings=(said,)), CANDIDATE)


def test_a_very_long_compiler_output_keeps_its_head_and_its_tail() -> None:
    said = finding(detail="first " + "x" * 15_000 + " last")
    text = render_feedback(evaluation(Verdict.REJECTED, Stage.SCREEN, findings=(said,)), "")
    assert len(text) < 6000
    assert "first" in text
    assert " last" in text


def test_very_many_findings_are_counted_and_not_shown() -> None:
    many = tuple(finding(f"number {i}") for i in range(MOST_FINDINGS + 3))
    text = render_feedback(evaluation(Verdict.REJECTED, Stage.SCREEN, findings=many), "")
    assert f"number {MOST_FINDINGS}" not in text
    assert "(3 more of less weight are left out.)" in text


def test_a_failed_comparison_tells_what_is_off_but_no_seed_and_no_expected_value() -> None:
    off = Norms(relative_l2=0.25, maximum=1e308, tile=0.5)
    worst = Worst(index=(6, 2), got=1.5, expected=0.123456)
    text = render_feedback(
        evaluation(Verdict.WRONG_VALUES, Stage.VALUES, trials=(trial(off, worst=worst),)), ""
    )
    for fact in ("`odd_sizes`", "`strided`", "(7, 3)", "0.25", "not finite", "[6, 2]", "1.5"):
        assert fact in text
    assert "0.123456" not in text
    assert "987654321" not in text
    assert "0 of 1 trials passed" in text


def test_a_tampered_run_learns_nothing_about_how_it_was_noticed() -> None:
    said = finding(rule="integrity.frame", stage=Stage.VALUES, detail="byte 17 of the frame")
    off = Norms(relative_l2=1, maximum=1, tile=1)
    text = render_feedback(
        evaluation(Verdict.TAMPERED, Stage.VALUES, findings=(said,), trials=(trial(off),)), ""
    )
    assert "byte 17" not in text
    assert "odd_sizes" not in text


def test_a_passing_turn_gives_each_speedup_with_its_interval_and_marks_the_score() -> None:
    text = render_feedback(
        passed(speedup(Mode.TRAINING_STEP, 3.0, 2.0), speedup(Mode.FORWARD, 1.0, 0.5)), CANDIDATE
    )
    assert "- training step: **1.500x** the reference (eager), 95 % interval 1.485 to 1.515" in text
    assert text.count("(this is the score)") == 1
    assert "Write a faster version" in text


def test_a_passing_turn_says_which_half_costs_more() -> None:
    text = render_feedback(
        passed(speedup(Mode.FORWARD, 1.0, 0.5), speedup(Mode.BACKWARD, 2.0, 1.75)), CANDIDATE
    )
    assert "work on the backward first" in text


def test_a_gain_within_the_noise_is_not_called_a_gain() -> None:
    text = render_feedback(passed(speedup(Mode.TRAINING_STEP, 1.001, 1.0)), CANDIDATE)
    assert "no measurable gain" in text


def test_a_pass_that_was_not_clocked_makes_no_claim_about_speed() -> None:
    assert "How fast" not in render_feedback(passed(), CANDIDATE)
