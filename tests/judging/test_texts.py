"""Texts that take long to read hold up nobody else's judgement."""

from __future__ import annotations

from pathlib import Path

from harness.pool import batch
from harness.records import Stage, Verdict
from harness.settings import Settings
from tests.judging.conftest import EXAMPLES
from tests.test_reading import SLOW

RIGHT = (EXAMPLES / "cpp" / "relu__right.md").read_text()


def test_a_batch_judges_what_comes_with_hostile_texts_as_ever(tmp_path: Path) -> None:
    folder = tmp_path / "generations"
    folder.mkdir()
    hostile = {"a_slow": SLOW, "b_slow": f"{SLOW}\n", "d_long": RIGHT + "#" * (1 << 20)}
    texts = {**hostile, "c_right": RIGHT, "e_prose": "I would rather not."}
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text)
    done = batch(
        folder,
        tmp_path / "run",
        problem="relu",
        device="cpu",
        clocked=False,
        settings=Settings(text_seconds=1),
    )
    assert not done.faults
    ended = {Path(e.generation).stem: (e.verdict, e.stage) for e in done.evaluations}
    assert ended == {
        "a_slow": (Verdict.REJECTED, Stage.SCREEN),
        "b_slow": (Verdict.REJECTED, Stage.SCREEN),
        "c_right": (Verdict.PASSED, Stage.AUDIT),
        "d_long": (Verdict.NO_CODE, Stage.EXTRACT),
        "e_prose": (Verdict.NO_CODE, Stage.EXTRACT),
    }
    slowest = max(e.stage_seconds.get(Stage.SCREEN, 0.0) for e in done.evaluations)
    assert slowest < 30
