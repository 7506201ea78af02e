"""metrics.jsonl: every step once, also after an interruption, also while it is written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from wmtp_ray.training.metrics_file import MetricsFile, last_step, read_metrics


def write(path: Path, steps_done: int, steps: range) -> None:
    file = MetricsFile(path, steps_done)
    for step in steps:
        file.append({"step": step, "loss": 1 / (step + 3), "histogram": [1.0, 2.0]})
    file.close()


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    write(path, 0, range(0, 4))
    assert [r["loss"] for r in read_metrics(path)] == [1 / 3, 1 / 4, 1 / 5, 1 / 6]


def test_what_is_not_finite_is_null_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, 0)
    file.append({"step": 1, "tokens": 8, "val_pairwise_accuracy": math.nan})
    file.close()
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "step": 1,
        "tokens": 8,
        "val_pairwise_accuracy": None,
    }
    last = last_step(path)
    assert last and math.isnan(last["val_pairwise_accuracy"])
    assert math.isnan(read_metrics(path)[0]["val_pairwise_accuracy"])


@pytest.mark.parametrize("saved", [0, 2, 4])
def test_a_resume_drops_what_no_checkpoint_covers(tmp_path: Path, saved: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, range(0, 5))
    # From the start again the validation before the first step is measured again, too.
    write(path, saved, range(saved + 1 if saved else 0, 7))
    assert [r["step"] for r in read_metrics(path)] == list(range(7))


def test_a_line_that_a_kill_cut_is_left_out_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, range(0, 3))
    for cut in (b'{"step": 3, "lo', b'{"step": 3}'):
        whole = path.read_bytes()
        path.write_bytes(whole + cut)
        assert [r["step"] for r in read_metrics(path)] == [0, 1, 2]
        write(path, 2, range(0))
        assert path.read_bytes() == whole


def test_a_record_can_be_read_at_once(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m", 0)
    record = {"step": 1, "histogram": [0.1] * 5000}  # longer than a buffer
    file.append(record)
    assert read_metrics(tmp_path / "m") == [record]
    assert json.loads((tmp_path / "m").read_text()) == record
    file.close()
