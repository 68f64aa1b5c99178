"""The comparison's candidates and tables, as far as they need no device."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.mapping import MANIFEST, read_manifest
from harness.records import Verdict

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
CANDIDATES = BENCHMARKS / "candidates"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def test_manifest_names_every_candidate_and_a_verdict() -> None:
    entries = read_manifest(CANDIDATES)
    assert set(entries) == {p.name for p in CANDIDATES.iterdir()} - {MANIFEST, "__pycache__"}
    for entry in entries.values():
        for kind in ("cuda", "emulated"):
            assert all(Verdict(word) for word in entry["expected"][kind].split("|"))


def test_there_are_enough_and_they_differ() -> None:
    entries = read_manifest(CANDIDATES)
    per_problem = Counter(entry["problem"] for entry in entries.values())
    assert len(entries) >= 48
    assert len(per_problem) == 5 and min(per_problem.values()) >= 9
    right = sum(entry["expected"]["cuda"] == "passed" for entry in entries.values())
    assert 0.6 <= right / len(entries) <= 0.7
    texts = [(CANDIDATES / name).read_text() for name in entries]
    sources = {re.search(r'cuda_source = r"""(.*?)"""', text, re.S)[1] for text in texts}
    assert len(sources) == len(entries)


def test_any_first_part_takes_the_problems_in_turn() -> None:
    from throughput import candidates

    chosen = candidates(25, "cuda")
    assert [c.number for c in chosen] == list(range(1, 26))
    assert set(Counter(c.problem for c in chosen).values()) == {5}


def test_ratios_leave_out_what_failed() -> None:
    from first_verdict import ratios

    def row(who: str, state: str, seconds: float, verdict: str = "correct") -> dict:
        return {
            "who": who, "candidate": "relu", "state": state, "seconds": seconds,
            "verdict": verdict,
        }  # fmt: skip

    rows = [row("ours", "cold", 10), row("ours", "again", 4), row("kernelbench", "cold", 60)]
    assert ratios(rows) == {}
    assert ratios([*rows, row("kernelbench", "again", 12)])["relu"]["ours"] == {
        "cold": 6,
        "again": 3,
        "built": 15,
    }
    assert ratios([*rows, row("kernelbench", "again", 1, "failed")]) == {}


def test_a_partial_run_of_the_peer_is_said() -> None:
    from peer_tables import throughput

    ours = {
        "judged": 56, "candidates": 56, "seconds": 280.0, "verdicts_per_hour": 720.0,
        "device_stage_share": 0.8, "as_expected": 56, "devices": 1,
        "preparation": {"preparation": 30.0},
    }  # fmt: skip
    peer = {"commit": "0123456789", "stand_ins": []}
    build = {"built": 56, "candidates": 56, "compiled": 52, "seconds": 560.0, "workers": 16}
    evaluation = {
        "evaluated": 20, "candidates": 56, "seconds": 300.0, "devices": 1,
        "agrees_with_expected": 18,
    }  # fmt: skip
    lines = throughput(
        {
            "throughput_kernelbench_build": {"result": build, "kernelbench": peer},
            "throughput_kernelbench_eval": {"result": evaluation, "kernelbench": peer},
            "throughput_ours": {"result": ours},
            "throughput_ours_4devices": {
                "result": {**ours, "devices": 4, "verdicts_per_hour": 2160.0, "preparation": None}
            },
        }
    )
    text = "\n".join(lines)
    assert "KernelBench's over ours with nothing built: 5.0x" in text
    assert "Ours is over 56 candidates, KernelBench's evaluation over the first 20" in text
    assert "4 GPUs judge 3.0x as many an hour as one" in text


def gallery_run(**rows: str) -> dict[str, Any]:
    """A run of some of the gallery's cheats, each with its verdict."""
    made = [
        {"candidate": name, "verdict": verdict, "as_expected": verdict == "rejected"}
        for name, verdict in rows.items()
    ]
    result = {"rows": made, "left_behind": [], "seconds": 300.0}
    return {"commit": "a" * 40, "device": {"name": "one"}, "result": result}


def test_what_was_graded_again_stands_in_for_the_full_run() -> None:
    from gallery_tables import entries, overlaid, rates

    full = gallery_run(relu__sign_bits="passed", relu__zeros="rejected")
    again = gallery_run(relu__sign_bits="rejected") | {"commit": "b" * 40, "over": "a" * 40}
    records = {"cuda": overlaid(full, again)}
    text = "\n".join(rates(records))
    assert "1 of 2" in "\n".join(rates({"cuda": full}))
    assert "| 2 of 2 | 0 of 2 (0.0 %) | 0 | 300 |" in text
    assert "1 of the entries are from a later run" in text
    (row,) = [line for line in entries("cheats", records) if "relu: sign bits" in line]
    assert row.endswith("| rejected |")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"over": "c" * 40}, "the full run is now one at aaaaaaaaaa"),
        ({"over": None}, "the full run is now one at aaaaaaaaaa"),
        ({"device": {"name": "other"}}, "graded again on other, and the full run was on one"),
        (gallery_run(relu__nobody="rejected"), "not in the gallery: relu__nobody"),
    ],
)
def test_what_was_graded_again_over_something_else_is_refused(
    change: dict[str, Any], said: str
) -> None:
    from gallery_tables import overlaid

    full = gallery_run(relu__sign_bits="passed")
    again = gallery_run(relu__sign_bits="rejected") | {"over": "a" * 40} | change
    with pytest.raises(ValueError, match=said):
        overlaid(full, again)


def test_tables_of_the_clock_say_what_the_records_hold() -> None:
    from speed_tables import against_itself, planted

    row = {
        "problem": "relu",
        "mode": "training_step",
        "milliseconds": 0.0081,
        "speedups": [1.0, 0.99],
        "covered": 2,
        "median_error": 0.005,
        "error_95": 0.01,
    }
    allowed = {"systematic": 0.001, "launch_ms": 2e-4, "done_ms": 0.03}
    text = "\n".join(against_itself({"result": {"against_itself": [row], "allowances": allowed}}))
    assert "| relu | training step | 0.0081 | 2 | 0.50 % | 1.00 % | 2 |" in text
    assert "0.10 % and 0.2 µs for launches" in text
    rows = [{"speedup": 0.99}, {"speedup": 0.991}]
    result = {
        "reference_ms": 2.75,
        "truth": 0.990099,
        "found": 2,
        "runs": 2,
        "holds_the_truth": 1,
        "rows": rows,
    }
    (said,) = planted({"result": result})
    assert "called slower in 2 of 2 runs" in said
    assert "from 0.9900 to 0.9910" in said


def test_a_build_that_ends_otherwise_stands_out_in_the_table() -> None:
    from speed_tables import builds

    same = {
        "candidate": "a.py",
        "seconds_stock": 60.0,
        "seconds_fast": 10.0,
        "routes": ["fast"],
        "same_verdict": True,
        "same_findings": True,
        "device_code": "identical",
        "outputs": "identical: 4 tensors",
    }
    other = same | {"candidate": "b.py", "same_findings": False, "routes": ["stock"]}
    lines = builds({"result": {"candidates": [same, other]}})
    assert "| 6.0x | fast | same |" in lines[2]
    assert "**not the same**" in lines[3]
    assert lines[-1].startswith("2 candidates, 1 of them built the fast way; stock takes 6.0")
