"""What runs inside each Ray Train worker: build the objective, wire its feed, train, export."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray.train.torch
import torch
from ray.exceptions import RayError, RayTaskError

from wmtp_ray.cluster.score_ahead import ScoreAhead
from wmtp_ray.cluster.scoring import ScoreAccess
from wmtp_ray.cluster.stream import PlanStream, configure_streams
from wmtp_ray.config.run import ClusterConfig
from wmtp_ray.data.plan import Plan
from wmtp_ray.errors import InfraError
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.batch import MicroBatch
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.objective import Objective
from wmtp_ray.training.trainer import Trainer, TrainerConfig


class JobSide(Protocol):
    """The part of a job that differs from others. Picklable; its methods run inside the workers."""

    def build(self, device: torch.device) -> Objective:
        """The objective with its model, on `device`."""
        ...

    def export(self, objective: Any, run: RunDirectory, held_out: list[MicroBatch]) -> None:
        """Write what users take away, on rank 0, after the last step. `held_out`: a few validation micro-batches."""
        ...


@dataclass(frozen=True)
class WorkerSpec:
    """Everything that a worker needs; sent to each of them."""

    job: JobSide
    trainer: TrainerConfig
    cluster: ClusterConfig
    run: Path
    attempt: str
    store: Path
    tokenizer: Path
    fingerprints: dict[str, str]
    scores: ScoreAccess | None = None
    """How to ask the pool of frozen models, if the run has one."""


class StreamFeed:
    """Plan order from Ray Data, values from the critic pool where the objective needs them. Implements `Feed`."""

    def __init__(self, stream: PlanStream, scores: ScoreAhead | None) -> None:
        self._stream, self._scores = stream, scores

    def __call__(self, plan: Plan, first_step: int) -> Iterator[list[MicroBatch]]:
        steps = self._stream(plan, first_step)
        return self._scores(steps) if self._scores else steps

    @property
    def wait_seconds(self) -> float:
        return self._scores.wait_seconds if self._scores else 0.0


def train_worker(spec: WorkerSpec) -> None:
    """The loop of one worker. Only the death of a process is worth another try; any other error (bad data, a full disk,
    a bug) is left in the run directory for the driver, so that a restarted group stops instead of failing again."""
    run = RunDirectory(spec.run)
    if run.failure:
        return
    torch.set_num_threads(spec.cluster.threads_per_worker)
    configure_streams()
    try:
        _train(spec, run)
    except Exception as error:
        died = isinstance(error, InfraError | RayError) and not isinstance(error, RayTaskError)
        if not died and run.is_current(spec.attempt):
            run.record_failure(type(error).__name__, str(error), traceback.format_exc())
        raise


def _train(spec: WorkerSpec, run: RunDirectory) -> None:
    collective = Collective()
    device = ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    objective = spec.job.build(device)
    stream = PlanStream(spec.store, spec.tokenizer, collective.rank, collective.world_size, spec.cluster)
    scores = ScoreAhead(objective.needs, spec.scores, spec.store, spec.tokenizer) if objective.needs else None
    trainer = Trainer(
        config=spec.trainer,
        run=run,
        attempt=spec.attempt,
        objective=objective,
        plan=Plan.load(run.plan),
        validation_plan=Plan.load(run.validation_plan),
        feed=StreamFeed(stream, scores),
        collective=collective,
        fingerprints=spec.fingerprints,
        notice=_noticer(run),
    )
    trainer.train()
    if collective.rank == 0:
        objective.model.eval()
        spec.job.export(objective, run, next(trainer.feed(trainer.validation_plan, 0), []))
    collective.barrier()


def _noticer(run: RunDirectory) -> Callable[[str], None]:
    """One line to the worker's log and to the run's `notices.log`, which the driver shows."""

    def notice(line: str) -> None:
        logging.getLogger(__name__).warning(line)
        with (run.path / "notices.log").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())

    return notice
