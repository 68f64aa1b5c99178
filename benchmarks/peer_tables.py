"""The tables that set ours beside KernelBench's, as lines, from result records.

A ratio is of seconds per candidate. Where one side got through fewer candidates than the other,
the line says over how many each was measured.

Does not: read files (see ``tables``).
"""

from __future__ import annotations

from statistics import median
from typing import Any

STATES = {"cold": "nothing built", "again": "all built"}


def first_verdict(record: dict[str, Any]) -> list[str]:
    """One candidate at a time: seconds, stages, verdicts and ratios."""
    result = record["result"]
    whose = {
        "ours": "`kernel-harness grade`, a fresh process",
        "warm": "the same beside a fork server kept warm",
        "running": "the same in a running process",
        "kernelbench": "KernelBench, a fresh process",
    }
    beside = record["kernelbench"] is not None
    lines = [
        f"| candidate | | by | seconds | of which | verdict |{' KernelBench takes |' * beside}",
        f"|---|---|---|---|---|---|{'---|' * beside}",
    ]
    for candidate in dict.fromkeys(row["candidate"] for row in result["rows"]):
        for state, title in STATES.items():
            for who, words in whose.items():
                wanted = (candidate, state, who)
                rows = [
                    r for r in result["rows"] if (r["candidate"], r["state"], r["who"]) == wanted
                ]
                if not rows:
                    continue
                ratio = result["ratios"].get(candidate, {}).get(who)
                times = f" {_times(ratio[state]) if ratio else '–'} |" * beside
                lines.append(f"| {candidate} | {title} | {words} {_measured(rows)}|{times}")
    made = result["prepared"]
    said = [
        f"Our one-time preparation, not in the table: {made['preparation']:.0f} s "
        f"(the first use of all took {made['first_use']:.0f} s, the same without it "
        f"{made['after_it']:.0f} s)."
    ]
    built = [
        f"{candidate} {_times(by[who]['built'])} ({whose[who]})"
        for candidate, by in result["ratios"].items()
        for who in by
    ]
    if built:
        said.append(
            "KernelBench's first evaluation against ours of a candidate that is built already: "
            f"{', '.join(built)}."
        )
    return [*lines, "", " ".join([*said, *_peer(record)])]


def throughput(records: dict[str, dict[str, Any]]) -> list[str]:
    """A batch: wall time, rate, devices' share, verdicts; then the ratio and the scaling."""
    lines = [
        "| | GPUs | candidates | seconds | seconds a candidate | verdicts an hour "
        "| GPU held by a stage | verdict as expected |",
        "|---|---|---|---|---|---|---|---|",
    ]
    titles = {"ours": "ours, nothing built", "ours_again": "ours, all built"}
    for name, record in records.items():
        part = name.removeprefix("throughput_").partition("devices")[0].rstrip("_0123456789")
        if part not in titles:
            continue
        r = record["result"]
        lines.append(
            f"| {titles[part]} | {r['devices']} | {_count(r['judged'], r['candidates'])} "
            f"| {r['seconds']:.0f} | {r['seconds'] / r['judged']:.2f} "
            f"| {r['verdicts_per_hour']:.0f} | {100 * r['device_stage_share']:.0f} % "
            f"| {r['as_expected']} of {r['judged']} |"
        )
    said = []
    build, evaluation = (records.get(f"throughput_kernelbench_{p}") for p in ("build", "eval"))
    if build and evaluation:
        b, e = build["result"], evaluation["result"]
        rates = b["seconds"] / b["built"], e["seconds"] / e["evaluated"]
        lines += [
            f"| KernelBench, build on {b['workers']} workers | – "
            f"| {_count(b['built'], b['candidates'])} | {b['seconds']:.0f} | {rates[0]:.2f} | – "
            f"| – | {b['compiled']} compiled |",
            f"| KernelBench, evaluation of what was built | {e['devices']} "
            f"| {_count(e['evaluated'], e['candidates'])} | {e['seconds']:.0f} | {rates[1]:.2f} "
            f"| – | – | {e['agrees_with_expected']} of {e['evaluated']} |",
            f"| KernelBench, both | {e['devices']} | – | – | {sum(rates):.2f} "
            f"| {3600 / sum(rates):.0f} | – | – |",
        ]
        said += _ratio(records, sum(rates), e)
        said += _peer(build)
    if (ours := records.get("throughput_ours")) and ours["result"]["preparation"]:
        made = ours["result"]["preparation"]["preparation"]
        said.insert(0, f"Our one-time preparation, not in the table: {made:.0f} s.")
    said += _scaling(records)
    return [*lines, "", " ".join(said)]


def _ratio(
    records: dict[str, dict[str, Any]], peer_seconds: float, evaluation: dict[str, Any]
) -> list[str]:
    if "throughput_ours" not in records:
        return []
    r = records["throughput_ours"]["result"]
    ratio = _times(peer_seconds / (r["seconds"] / r["judged"]))
    said = [f"Seconds a candidate, KernelBench's over ours with nothing built: {ratio}."]
    if r["judged"] != evaluation["evaluated"]:
        said.append(
            f"Ours is over {r['judged']} candidates, KernelBench's evaluation over the first "
            f"{evaluation['evaluated']} in the same order, which takes the problems in turn."
        )
    return said


def _scaling(records: dict[str, dict[str, Any]]) -> list[str]:
    """How many times the rate of one GPU several have."""
    said = []
    for part in ("ours", "ours_again"):
        one = records.get(f"throughput_{part}")
        for name, record in records.items():
            r = record["result"]
            if one and name == f"throughput_{part}_{r.get('devices')}devices":
                ratio = r["verdicts_per_hour"] / one["result"]["verdicts_per_hour"]
                built = "nothing" if part == "ours" else "all"
                cores = [run.get("host_cores") for run in (record, one)]
                more = (
                    "" if cores[0] == cores[1] else f", on {cores[0]} cores in place of {cores[1]}"
                )
                said.append(
                    f"{r['devices']} GPUs judge {_times(ratio)} as many an hour as one, "
                    f"with {built} built{more}."
                )
    return said


def _measured(rows: list[dict[str, Any]]) -> str:
    """Three cells: seconds, stages, verdict."""
    if not rows:
        return "| – | – | – "
    first = rows[0]
    stages = ", ".join(
        f"{name} {value:.1f}" for name, value in first.get("stages", {}).items() if value >= 0.05
    )
    return f"| {median(r['seconds'] for r in rows):.1f} | {stages} | {first['verdict']} "


def _peer(record: dict[str, Any]) -> list[str]:
    """Which KernelBench it was, and what it was spared."""
    if not (made := record.get("kernelbench")):
        return []
    said = f"KernelBench {made['commit'][:7]}"
    if made["stand_ins"]:
        said += (
            f", with empty stand-ins for {', '.join(made['stand_ins'])}, which evaluation never "
            "calls: its imports are shorter than a full installation's"
        )
    return [said + "."]


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["candidate"], row["state"], row["who"]


def _count(done: int, of: int) -> str:
    return str(done) if done == of else f"{done} of {of}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x"
