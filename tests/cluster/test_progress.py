"""Time left counts only what this start of a run does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wmtp_ray.cluster.progress import Pace, Progress
from wmtp_ray.storage.runs import RunDirectory


def pace(done_before: int, *seen: tuple[int, float]) -> float | None:
    pace = Pace(done_before)
    for done, now in seen:
        pace.see(done, now)
    return pace.seconds_per_step


def test_set_up_does_not_count() -> None:
    assert pace(0, (0, 10.0), (0, 100.0), (1, 110.0)) is None
    assert pace(0, (0, 100.0), (1, 110.0), (1, 111.0), (3, 130.0)) == 10.0


def test_a_resume_counts_its_own_steps() -> None:
    """An earlier start wrote 90 steps and saved 80: they are written anew from there."""
    assert pace(90, (90, 100.0), (80, 150.0)) is None
    assert pace(90, (90, 100.0), (80, 150.0), (81, 152.0), (85, 160.0)) == 2.0
    assert pace(90, (90, 100.0), (91, 152.0), (95, 160.0)) == 2.0


def test_steps_that_are_done_again_after_a_death_do_not_spoil_it() -> None:
    before = ((1, 10.0), (9, 18.0))
    assert pace(0, *before, (6, 40.0), (6, 41.0)) == 1.0
    assert pace(0, *before, (6, 40.0), (7, 41.0), (9, 43.0)) == 1.0


@pytest.mark.parametrize(("step", "shown"), [(10, ""), (4, "0:09:00 left"), (1, "")])
def test_the_line(tmp_path: Path, step: int, shown: str) -> None:
    now = 0.0
    progress = Progress(RunDirectory(tmp_path), 10, clock=lambda: now)
    record = {"step": step, "tokens": 7, "loss": 1.23456}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    for done in range(1, step + 1):
        progress._pace.see(done, 90.0 * done)
    assert progress._line(record, step) == f"step {step}/10  loss 1.235  {shown}"
