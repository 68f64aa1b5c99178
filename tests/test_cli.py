"""The commands as a user meets them: exit codes, one clear sentence, JSON everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ANSWER = ROOT / "tests" / "data" / "real_answer_conv2d.txt"


FEW_LINES = """\
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

source = "torch::Tensor same(torch::Tensor x) { return x; }"


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, x):
        return x
"""


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a shell would start it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def graded() -> str:
    """The record of the real answer, as the command prints it."""
    done = run("grade", str(ANSWER), "--problem", "conv2d", "--device", "cpu", "--json")
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_the_real_answer_is_rejected_with_every_finding_at_its_line(graded: str) -> None:
    record = json.loads(graded)
    assert record["verdict"] == "rejected"
    lines = {(f["rule"], f["place"]["line"]) for f in record["findings"] if f["place"]}
    # import math, undeclared conv2d_forward, self-calling backward, block size, launch check
    expected = {("R09", 27), ("build.undeclared_function", 135), ("R06", 186)}
    expected |= {("screen.block_size", 111), ("screen.launch_check", 115)}
    assert expected <= lines


def test_the_account_shows_the_candidates_own_lines() -> None:
    done = run("grade", str(ANSWER), "--problem", "conv2d", "--device", "cpu")
    assert done.returncode == 1
    assert "nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))" in done.stdout
    assert "Add `import math`" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grade", "missing.md", "-p", "relu"], "missing.md"),
        (["grade", str(ANSWER)], "--problem"),
        (["grade", str(ANSWER), "-p", "no_such_problem"], "relu"),
        (["grade", str(ANSWER), "-p", "conv2d", "--device", "tpu"], "cpu, cuda"),
        (["grade", str(ANSWER), "-p", "conv2d", "--gradients", "maybe"], "optional"),
        (["batch", "no_such_directory", "--out", "x"], "no_such_directory"),
        (["baseline", "relu", "--solution", "missing.py", "--device", "cpu"], "missing.py"),
        (["prompt", "no_such_problem"], "relu"),
        (["prompt", "relu", "--feedback", str(ANSWER)], "--evaluation"),
        (["prompt", "relu", "--feedback", str(ANSWER), "--evaluation", "no.json"], "no.json"),
        (["problems", "no_such_directory"], "no_such_directory"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("kernel-harness: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_batch_tells_its_pace_and_where_the_time_went(tmp_path: Path) -> None:
    answers = tmp_path / "relu"
    answers.mkdir()
    for number in range(2):
        raising = f"raise ValueError({number})"
        text = FEW_LINES.replace("pass", raising)
        (answers / f"{number}.py").write_text(text)
    (answers / "words.md").write_text("I cannot do that.")
    out = tmp_path / "run"
    arguments = ["batch", str(tmp_path), "--device", "cpu", "--no-clock", "-o", str(out)]
    done = run(*arguments, "--timings")
    assert done.returncode == 0, done.stderr
    assert "3/3 judged" in done.stderr
    assert " per minute" in done.stderr
    for words in ("wait for a device", "interface", "median", "cpu", "candidates an hour"):
        assert words in done.stdout
    summary = json.loads((out / "summary.json").read_text())
    (device,) = summary["timings"]["devices"]
    assert device["judged"] == 2
    assert 0 < device["busy_share"] < 1
    assert summary["timings"]["candidates_per_hour"] > 0
    assert summary["devices_lost"] == []
    again = run(*arguments, "--json")
    assert json.loads(again.stdout) == summary, "what is done costs nothing, and changes nothing"


def test_a_broken_problem_is_listed_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text((ROOT / "reference_models" / "relu.py").read_text())
    (tmp_path / "broken.py").write_text("class Model: ...\ndef get_inputs(): ...\n")
    done = run("problems", str(tmp_path), "--json")
    assert done.returncode == 2
    listed = json.loads(done.stdout)
    assert [p["name"] for p in listed["problems"]] == ["good"]
    assert "broken.py" in listed["broken"][0]
    assert "get_init_inputs" in listed["broken"][0]


def test_the_shipped_problems_are_listed_with_their_cases() -> None:
    listed = {p["name"]: p for p in json.loads(run("problems", "--json").stdout)["problems"]}
    assert set(listed) == {"conv2d", "relu", "softmax", "matmul", "layer_norm"}
    assert listed["conv2d"]["cases"] >= 10


def test_the_prompt_holds_rules_reference_and_example() -> None:
    done = run("prompt", "conv2d", "--device", "cpu")
    assert done.returncode == 0
    for words in ("R01", "R12", "class Model(nn.Module)", "ModelNew", "load_inline"):
        assert words in done.stdout
    assert "CASES" not in done.stdout, "the small cases are not for the candidate's eyes"


def test_feedback_is_made_from_an_evaluation(graded: str, tmp_path: Path) -> None:
    record = tmp_path / "evaluation.json"
    record.write_text(graded)
    done = run("prompt", "conv2d", "--feedback", str(ANSWER), "--evaluation", str(record))
    assert done.returncode == 0, done.stderr
    assert "math" in done.stdout
    assert "line 27" in done.stdout


def test_the_doctor_looks_at_everything_a_judgement_needs() -> None:
    checks = {c["what"] for c in json.loads(run("doctor", "--json").stdout)["checks"]}
    assert {"Python", "torch", "C++ compiler", "nvcc", "sandbox", "cache"} <= checks


def test_a_problem_is_admitted_or_not_and_the_exit_code_says_so(tmp_path: Path) -> None:
    sound, lazy = tmp_path / "sound.py", tmp_path / "lazy.py"  # far smaller than those shipped
    text = (
        'import torch\nfrom torch import nn\n\nGRADIENTS = "off"\n\n'
        "class Model(nn.Module):\n    def forward(self, x):\n        return torch.tanh(x)\n\n"
        "def get_inputs():\n    return [torch.rand(8, 33)]\n\n"
        "def get_init_inputs():\n    return []\n"
    )
    sound.write_text(text)
    lazy.write_text(text.replace("torch.tanh(x)", "0 * x"))
    admitted = run("admit", str(sound), "--device", "cpu", "--json")
    assert admitted.returncode == 0, admitted.stderr
    assert json.loads(admitted.stdout)["trusted"] is True
    refused = run("admit", str(lazy), "--device", "cpu")
    assert refused.returncode == 1, refused.stderr
    assert "not trusted" in refused.stdout
    assert "zeros" in refused.stdout


def test_a_calibration_is_measured_shown_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.py"
    path.write_text(
        'import torch\nfrom torch import nn\n\nGRADIENTS = "off"\n\n'
        "class Model(nn.Module):\n    def forward(self, x):\n        return torch.tanh(x)\n\n"
        "def get_inputs():\n    return [torch.randn(64, 65)]\n\n"
        "def get_init_inputs():\n    return []\n"
    )
    monkeypatch.setenv("KERNEL_HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("KERNEL_HARNESS_CLOCK_SECONDS", "0.2")
    done = run("calibrate", str(path), "--runs", "2", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    (forward,) = record["against_itself"]
    assert (forward["problem"], forward["mode"]) == ("small", "forward")
    assert len(forward["speedups"]) == 2
    (kept,) = (tmp_path / "cache" / "calibrations").glob("*.json")
    assert json.loads(kept.read_text()) == record
