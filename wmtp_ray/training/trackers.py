"""Where metrics go besides `metrics.jsonl`: nowhere, TensorBoard, MLflow. The loop calls one `Tracker` and never asks
which. What a resumed run repeats is logged again under the same steps."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from wmtp_ray.config.run import MLflowConfig, TrackingConfig
from wmtp_ray.errors import InfraError


class Tracker(Protocol):
    """Receives every record of `metrics.jsonl`, on rank 0."""

    def log(self, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class NoTracker:
    """Receives everything and does nothing."""

    def log(self, record: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


class Trackers:
    """Hands every record to each of `trackers`. One whose server fails gets no more of them, and `notice` one line:
    training goes on, and `metrics.jsonl` has every record."""

    def __init__(self, trackers: Sequence[Tracker], notice: Callable[[str], None]) -> None:
        self._trackers, self._notice = list(trackers), notice

    def log(self, record: Mapping[str, Any]) -> None:
        self._each(lambda tracker: tracker.log(record))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except InfraError as error:
                self._trackers.remove(tracker)
                self._notice(
                    f"{error}; until the next start nothing more is sent there, metrics.jsonl has it all"
                )


class TensorBoardTracker:
    """Event files in `directory`: a scalar per number."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory))

    def log(self, record: Mapping[str, Any]) -> None:
        for name, value in numbers(record).items():
            self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflowTracker:
    """One MLflow run per run directory, found again through `mlflow_run_id` in it when training is resumed.

    `InfraError` where the server does not answer.
    """

    def __init__(self, config: MLflowConfig, run: Path, parameters: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else a file:// URI is refused
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._uri = config.uri
        known = run / "mlflow_run_id"
        with self._naming_the_server():
            self._client = MlflowClient(tracking_uri=config.uri)
            if known.exists():
                self._run = known.read_text()
                self._client.update_run(self._run, status="RUNNING")
                return
            experiment = self._client.get_experiment_by_name(config.experiment)
            number = (
                experiment.experiment_id if experiment else self._client.create_experiment(config.experiment)
            )
            self._run = self._client.create_run(number, run_name=run.name).info.run_id
            for name, value in parameters.items():
                self._client.log_param(self._run, name, value)
        known.write_text(self._run)

    def log(self, record: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), record["step"]
        metrics = [Metric(name, value, now, step) for name, value in numbers(record).items()]
        with self._naming_the_server():
            self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        with self._naming_the_server():
            self._client.set_terminated(self._run)

    @contextmanager
    def _naming_the_server(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            raise InfraError(
                f"tracking.mlflow.uri = {self._uri}: {' '.join(str(error).split())[:300]}; "
                "check it, or remove the section"
            ) from error


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The plain numbers of a record but its step."""
    return {
        name: float(value)
        for name, value in record.items()
        if name != "step" and isinstance(value, int | float)
    }


def build_trackers(config: TrackingConfig, run: Path, parameters: Mapping[str, Any]) -> list[Tracker]:
    """What the configuration names; `parameters` describe the run."""
    trackers: list[Tracker] = []
    if config.tensorboard:
        trackers.append(TensorBoardTracker(run / "tensorboard"))
    if config.mlflow is not None:
        trackers.append(MLflowTracker(config.mlflow, run, parameters))
    return trackers
