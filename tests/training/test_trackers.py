"""Trackers hold what `metrics.jsonl` holds, also after a resume."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from wmtp_ray.cluster.metrics import COUNTERS, GAUGES, HEAD_GAUGES
from wmtp_ray.config.run import MLflowConfig, TrackingConfig
from wmtp_ray.errors import InfraError
from wmtp_ray.training.trackers import Trackers, build_trackers, numbers

RECORDS: list[dict[str, Any]] = [
    {"step": 1, "loss": 0.5, "tokens": 12, "weight_histogram": [1.0, 2.0]},
    {"step": 2, "loss": 0.25, "tokens": 13, "weight_histogram": [3.0, 4.0]},
]


def test_nothing_configured_is_nothing(tmp_path: Path) -> None:
    assert build_trackers(TrackingConfig(), tmp_path, {}) == []


def test_numbers_leave_out_the_step_and_histograms() -> None:
    assert numbers(RECORDS[0]) == {"loss": 0.5, "tokens": 12.0}


def test_tensorboard_has_every_number(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = Trackers(build_trackers(TrackingConfig(tensorboard=True), tmp_path, {}), pytest.fail)
    for record in RECORDS:
        tracker.log(record)
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert [(e.step, e.value) for e in events.Scalars("tokens")] == [(1, 12.0), (2, 13.0)]


def test_mlflow_goes_on_with_the_same_run(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    config = TrackingConfig(mlflow=MLflowConfig(uri=f"file://{tmp_path}/ml", experiment="e"))
    for record in RECORDS:  # each time as a resumed worker would
        tracker = Trackers(build_trackers(config, tmp_path, {"job": "critic"}), pytest.fail)
        tracker.log(record)
        tracker.close()
    client = MlflowClient(tracking_uri=f"file://{tmp_path}/ml")
    experiment = client.get_experiment_by_name("e")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.data.params, run.info.status, run.info.run_name) == (
        {"job": "critic"},
        "FINISHED",
        tmp_path.name,
    )
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 0.5), (2, 0.25)]


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = TrackingConfig(mlflow=MLflowConfig(uri="http://127.0.0.1:9"))
    with pytest.raises(
        InfraError, match=r"tracking\.mlflow\.uri = http://127\.0\.0\.1:9: .*remove the section"
    ):
        build_trackers(config, tmp_path, {})


@pytest.mark.parametrize("fails_at", ["log", "close"])
def test_a_server_that_fails_later_is_told_once_and_asked_no_more(tmp_path: Path, fails_at: str) -> None:
    tracking = TrackingConfig(tensorboard=True, mlflow=MLflowConfig(uri=f"file://{tmp_path}/ml"))
    notices: list[str] = []
    tracker = Trackers(build_trackers(tracking, tmp_path, {}), notices.append)
    tracker.log(RECORDS[0])
    assert notices == []
    [run] = (tmp_path / "ml").glob(f"*/{(tmp_path / 'mlflow_run_id').read_text()}")
    shutil.rmtree(run)
    if fails_at == "log":
        tracker.log(RECORDS[1])
        tracker.log(RECORDS[1])
    tracker.close()
    [notice] = notices
    assert f"tracking.mlflow.uri = file://{tmp_path}/ml: " in notice and "metrics.jsonl has it all" in notice
    assert not run.exists()


def test_prometheus_takes_every_name() -> None:
    every = GAUGES | HEAD_GAUGES | COUNTERS
    assert len(every) == len(GAUGES) + len(HEAD_GAUGES) + len(COUNTERS)
    assert all(re.fullmatch(r"[a-z_]+", name) and text for name, text in every.items())
