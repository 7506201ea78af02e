"""What runs inside each Ray Train worker: build the objective, wire its feed, train, export."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray.train.torch
import torch
from ray.exceptions import RayError, RayTaskError

from wmtp_ray import errors
from wmtp_ray.cluster.metrics import RayMetrics
from wmtp_ray.cluster.score_ahead import ScoreAhead
from wmtp_ray.cluster.scoring import ScoreAccess
from wmtp_ray.cluster.stream import PlanStream, configure_streams
from wmtp_ray.config.run import ClusterConfig, TrackingConfig
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.storage.timeline import timed
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.feed import FeedUse
from wmtp_ray.training.objective import Objective
from wmtp_ray.training.sharding import EvenFeed, shard_layers
from wmtp_ray.training.trackers import NoTracker, Tracker, Trackers, build_trackers
from wmtp_ray.training.trainer import Trainer, TrainerConfig


class JobSide(Protocol):
    """The part of a job that differs from others. Picklable; its methods run inside the workers."""

    def build(self, device: torch.device, backbone: Path) -> Objective:
        """The objective with its model, on `device`; `backbone` is the resolved directory of the one configured."""
        ...

    def export(self, objective: Any, run: RunDirectory, held_out: Iterator[MicroBatch]) -> None:
        """Write what users take away, on rank 0, after the last step. `held_out`: rank 0's validation micro-batches."""
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
    backbone: Path
    """The resolved directory of the model that is trained, with its tokenizer."""
    fingerprints: dict[str, str]
    tracking: TrackingConfig
    described: Mapping[str, str]
    """What trackers are told about the run."""
    scores: ScoreAccess | None = None
    """How to ask the pool of frozen models, if the run has one."""


class StreamFeed:
    """Plan order from Ray Data, scores from the pool of frozen models if the run has one. Implements `Feed`."""

    def __init__(self, stream: PlanStream, scores: ScoreAhead | None) -> None:
        self._stream, self._scores = stream, scores

    def __call__(self, plan: Plan, first_step: int) -> Iterator[list[MicroBatch]]:
        steps = self._stream(plan, first_step)
        return self._scores(steps) if self._scores else steps

    def use(self) -> FeedUse:
        scores = self._scores
        if scores is None:
            return FeedUse()
        return FeedUse(
            scores.wait_seconds,
            scores.score_seconds,
            scores.samples,
            scores.cached_samples,
            scores.queue_depth,
        )


def train_worker(spec: WorkerSpec) -> None:
    """The loop of one worker. Only the death of a process is worth another try; any other error (bad data, a full disk,
    a bug) is left in the run directory for the driver, so that a restarted group stops instead of failing again."""
    run = RunDirectory(spec.run)
    if run.failure:
        return
    run.require_current(spec.attempt)
    torch.set_num_threads(spec.cluster.threads_per_worker)
    configure_streams()
    collective = Collective()
    try:
        with collective.peers():
            _train(spec, run, collective)
    except Exception as error:
        died = isinstance(error, errors.InfraError | RayError) and not isinstance(error, RayTaskError)
        if not died and run.is_current(spec.attempt):
            run.record_failure(_kind(error), str(error), traceback.format_exc())
        raise


def _kind(error: Exception) -> str:
    """The nearest class that the driver knows by name; of a bug, its own."""
    known = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return next(known, type(error).__name__)


def _train(spec: WorkerSpec, run: RunDirectory, collective: Collective) -> None:
    device = ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    with timed(run.path if collective.rank == 0 else None, "loading the model"):
        objective = spec.job.build(device, spec.backbone)
    sharded = spec.cluster.parallelism == "fsdp2" and collective.distributed
    if sharded:
        shard_layers(objective.model, device.type)
    ranks = (collective.rank, collective.world_size)
    stream = PlanStream(spec.store, spec.backbone, *ranks, spec.cluster, objective.needs)
    scores = ScoreAhead(spec.scores, spec.store, *ranks) if spec.scores else None
    feed = StreamFeed(stream, scores)
    notice = _noticer(run)
    trainer = Trainer(
        config=spec.trainer,
        run=run,
        attempt=spec.attempt,
        objective=objective,
        plan=Plan.load(run.plan),
        validation_plan=Plan.load(run.validation_plan),
        feed=EvenFeed(feed, collective) if sharded else feed,
        collective=collective,
        fingerprints=spec.fingerprints,
        notice=notice,
        tracker=_tracker(spec, run, notice) if collective.rank == 0 else NoTracker(),
    )
    if trainer.train() and collective.rank == 0:
        if sharded:  # cannot be written by one rank alone
            objective = spec.job.build(device, spec.backbone)
        step = trainer.load_exported(objective)
        objective.model.eval()
        with timed(run.path, "export"):
            held_out = (m for share in feed(trainer.validation_plan, 0) for m in share)
            spec.job.export(objective, run, held_out)
        run.record_export(step)


def _tracker(spec: WorkerSpec, run: RunDirectory, notice: Callable[[str], None]) -> Tracker:
    trackers = build_trackers(spec.tracking, run.path, spec.described)
    return Trackers([RayMetrics(run.path.name), *trackers], notice)


def _noticer(run: RunDirectory) -> Callable[[str], None]:
    """One line to the worker's log and to the run's notices."""

    def notice(line: str) -> None:
        logging.getLogger(__name__).warning(line)
        run.notice(line)

    return notice
