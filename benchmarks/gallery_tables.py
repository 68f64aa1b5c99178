"""The gallery's tables, as lines, from its entries and its result records.

A device that has not judged the gallery yet has no record: its column then holds what is
expected, in brackets, and the rates say so. What changed after a full run can be graded
again by itself: those entries take the place of the full run's.

Does not: read results (see ``tables``).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.records import Verdict
from tests.gallery.expectations import CHEATS, FLAWED, HONEST, Entry, entry

Record = dict[str, Any]
DEVICES = {"emulated": "emulated", "cuda": "H100"}
_ON_THE_DEVICE = ("load", "interface", "values", "audit", "time")
KINDS: dict[str, list[Path]] = {"honest": HONEST, "flawed": FLAWED, "cheats": CHEATS}


def overlaid(full: Record, again: Record) -> Record:
    """A full run with the entries of a later, partial run in the place of its own.

    Raises:
        ValueError: the partial run was made over another full run, on another device, or holds
            unknown entries.
    """
    if (over := again.get("over")) != full["commit"]:
        raise ValueError(
            f"entries were graded again over a full run at {str(over)[:10]}, "
            f"and the full run is now one at {full['commit'][:10]}"
        )
    names = [run["device"]["name"] for run in (full, again)]
    if names[0] != names[1]:
        raise ValueError(f"graded again on {names[1]}, and the full run was on {names[0]}")
    later = _rows(again)
    if unknown := later.keys() - {path.stem for paths in KINDS.values() for path in paths}:
        raise ValueError(f"graded again, but not in the gallery: {', '.join(sorted(unknown))}")
    left = [*full["result"]["left_behind"], *again["result"]["left_behind"]]
    rows = list((_rows(full) | later).values())
    return full | {
        "result": full["result"] | {"rows": rows, "left_behind": left},
        "later": len(later),
    }


def entries(kind: str, records: Mapping[str, Record]) -> list[str]:
    """Every entry of a kind: what it does, and expected against actual verdicts."""
    lines = [
        "| candidate | known as | what it does | " + " | ".join(DEVICES.values()) + " |",
        "|---|---|---|" + "---|" * len(DEVICES),
    ]
    rows = {device: _rows(records[device]) if device in records else {} for device in DEVICES}
    for path in KINDS[kind]:
        one = entry(path)
        cells = [_verdict(one, device, rows[device].get(path.stem)) for device in DEVICES]
        does = one.does.replace("|", "\\|")
        title = path.stem.replace("__", ": ").replace("_", " ")
        lines.append(f"| {title} | {one.known_as} | {does} | {' | '.join(cells)} |")
    return lines


def rates(records: Mapping[str, Record]) -> list[str]:
    """How many of each kind get what they must get, and the two rates that follow."""
    lines = [
        "| device | honest as expected | honest called wrong | flawed as expected "
        "| cheats as expected | what is wrong and passed | left behind | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for device, title in DEVICES.items():
        record = records.get(device)
        if record is None:
            lines.append(f"| {title} | not run yet | – | – | – | – | – | – |")
            continue
        rows = _rows(record)
        counts = {}
        for kind, paths in KINDS.items():
            found = [rows[p.stem] for p in paths if p.stem in rows]
            counts[kind] = f"{sum(r['as_expected'] for r in found)} of {len(found)}"
        honest = [rows[p.stem]["verdict"] for p in HONEST if p.stem in rows]
        runnable = [verdict for verdict in honest if verdict != Verdict.UNSUPPORTED]
        refused = [verdict for verdict in runnable if verdict != Verdict.PASSED]
        wrong = [p for p in (*FLAWED, *CHEATS) if p.stem in rows and _must_fail(p, device)]
        passed = [p for p in wrong if rows[p.stem]["verdict"] == Verdict.PASSED]
        lines.append(
            f"| {title} | {counts['honest']} | {_share(len(refused), len(runnable))} "
            f"| {counts['flawed']} | {counts['cheats']} | {_share(len(passed), len(wrong))} "
            f"| {len(record['result']['left_behind'])} | {record['result']['seconds']:.0f} |"
        )
    for device, title in DEVICES.items():
        if later := records.get(device, {}).get("later"):
            said = f"{later} of the entries are from a later run of these alone"
            lines += ["", f"{title}: {said}; the seconds are those of the full run."]
    return lines


def cost(before: Record, now: Record) -> list[str]:
    """Where the device's time goes for those that passed in two runs of the gallery."""
    runs = _rows(before), _rows(now)
    passed = [c for c in runs[0] if c in runs[1] and _both_passed(runs[0][c], runs[1][c])]
    whole = sum(_spent(runs[1][c], _ON_THE_DEVICE) for c in passed)
    lines = [
        "| stage | median before, s | median now, s | share of all time now |",
        "|---|---|---|---|",
    ]
    for title, stages in (*((s, (s,)) for s in _ON_THE_DEVICE), ("all", _ON_THE_DEVICE)):
        spent = [[_spent(run[c], stages) for c in passed] for run in runs]
        middle = " | ".join(f"{statistics.median(one):.3f}" for one in spent)
        lines.append(f"| {title} | {middle} | {100 * sum(spent[1]) / whole:.1f} % |")
    return [*lines, "", f"{len(passed)} candidates that passed in both runs."]


def _both_passed(one: Record, other: Record) -> bool:
    return bool(one["verdict"] == other["verdict"] == Verdict.PASSED)


def _spent(row: Record, stages: Iterable[str]) -> float:
    return sum(row["seconds"].get(stage, 0.0) for stage in stages)


def _must_fail(path: Path, device: str) -> bool:
    return Verdict.PASSED not in entry(path).expected(device)


def _rows(record: Record) -> dict[str, Record]:
    """A result's rows by candidate."""
    return {row["candidate"]: row for row in record["result"]["rows"]}


def _verdict(one: Entry, device: str, row: Record | None) -> str:
    expected = " or ".join(sorted(one.expected(device)))
    if row is None:
        return f"({expected})"
    return row["verdict"] if row["as_expected"] else f"**{row['verdict']}**, not {expected}"


def _share(part: int, of: int) -> str:
    return f"{part} of {of}" + (f" ({100 * part / of:.1f} %)" if of else "")
