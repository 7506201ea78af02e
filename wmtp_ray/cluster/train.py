"""The driver's side of a training job: critic pool, Ray Train, progress, and the end of it."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace

from ray import cloudpickle
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from actors.cache import CacheCounts
from wmtp_ray import errors
from wmtp_ray.cluster.controlled import Deaths, train_loop
from wmtp_ray.cluster.elastic import Growth, await_room, worker_resources
from wmtp_ray.cluster.progress import Progress
from wmtp_ray.cluster.resources import times, total
from wmtp_ray.cluster.scoring import ScorePool, ScorerUse
from wmtp_ray.cluster.stopping import on_sigterm
from wmtp_ray.cluster.worker import WorkerSpec
from wmtp_ray.config.run import ClusterConfig
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.checkpoint import newest_state


def training_resources(cluster: ClusterConfig, critic: ScorerUse | None, workers: int) -> dict[str, float]:
    """What so many workers, their read tasks and the least number of critics occupy."""
    each = total(worker_resources(cluster), {"CPU": cluster.read_tasks * cluster.read_cpus})
    return total(times(workers, each), critic.resources if critic else {})


def train_on_ray(
    spec: WorkerSpec, critic: ScorerUse | None, total_steps: int
) -> tuple[float, CacheCounts | None]:
    """Train to the plan's end; returns the seconds taken and what was asked of the score cache.

    The job's process must be connected to Ray. Raises the `WMTPError` that a worker met, or `InfraError` where workers
    died more often than `cluster.max_failures` allows.
    """
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    run = RunDirectory(spec.run)
    started = time.perf_counter()
    pool = ScorePool(f"{run.path.name}-{spec.attempt[:8]}", critic, run.path) if critic else None
    try:
        if pool:
            spec = replace(spec, scores=pool.access)
        with Progress(run, total_steps), on_sigterm(lambda: run.request_stop(spec.attempt)):
            _fit(spec, run, total_steps)
        asked = pool.counts() if pool else None
    finally:
        if pool:
            pool.close()
    return time.perf_counter() - started, asked


def _fit(spec: WorkerSpec, run: RunDirectory, total_steps: int) -> None:
    fit = _fit_elastic if isinstance(spec.cluster.num_workers, tuple) else _fit_fixed
    try:
        fit(spec, run, total_steps)
    except TrainingFailedError as error:
        _raise_recorded(run)
        run.require_current(spec.attempt)
        limit = spec.cluster.max_failures
        raise errors.InfraError(
            f"the workers of {run.path.name} died more than cluster.max_failures = {limit} times; "
            f"the last reason: {_last_line(error)}; the same command goes on from the last checkpoint"
        ) from error
    _raise_recorded(run)
    done = newest_state(run.checkpoints)
    if run.stop_requested(spec.attempt) and (done is None or done.step < total_steps):
        raise errors.StoppedError(
            f"{run.path.name} was asked to stop and did after step {done.step if done else 0} of {total_steps}, which "
            "is saved; the same command goes on"
        )


def _fit_fixed(spec: WorkerSpec, run: RunDirectory, total_steps: int) -> None:
    """With as many workers as configured, for which Ray Train waits after a death."""
    _trainer(
        spec, run, spec.cluster.worker_range[0], FailureConfig(max_failures=spec.cluster.max_failures)
    ).fit()


def _fit_elastic(spec: WorkerSpec, run: RunDirectory, total_steps: int) -> None:
    """With as many workers as there is room for; again with fewer after a death, and with more when there is room."""
    failures = 0

    def asked_to_end() -> bool:
        return run.stop_requested(spec.attempt)

    while not asked_to_end() and (workers := await_room(spec.cluster, run.notice, asked_to_end)):
        run.notice(f"training with {workers} of at most {spec.cluster.worker_range[1]} workers")
        before = _written(run)
        try:
            with Growth(
                spec.cluster,
                workers,
                at_work=lambda before=before: _written(run) != before,
                when_there_is_room=lambda: run.request_growth(spec.attempt),
            ):
                _trainer(spec, run, workers, FailureConfig(max_failures=0, controller_failure_limit=0)).fit()
            done = newest_state(run.checkpoints)
            if not run.growth_requested(spec.attempt) or (done is not None and done.step == total_steps):
                return
            run.notice("there is room for more workers: all start again from the checkpoint just saved")
        except TrainingFailedError:
            failures += 1
            if run.failure is not None or failures > spec.cluster.max_failures:
                raise
        run.withdraw_growth()


def _written(run: RunDirectory) -> int:
    """When metrics were last written, in the file system's time: a group of workers begins with it."""
    return run.metrics.stat().st_mtime_ns if run.metrics.exists() else 0


def _trainer(spec: WorkerSpec, run: RunDirectory, workers: int, failures: FailureConfig) -> TorchTrainer:
    cluster = spec.cluster
    return TorchTrainer(
        train_loop,
        train_loop_config={"spec": cloudpickle.dumps(spec)},
        # Statistics are reduced on the CPU, gradients where they are.
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if cluster.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=worker_resources(cluster),
        ),
        run_config=RunConfig(
            name=f"{run.path.name}-{uuid.uuid4().hex[:8]}",
            storage_path=str(run.path / "ray"),
            failure_config=failures,
            callbacks=[Deaths(run.path)],
        ),
    )


def _raise_recorded(run: RunDirectory) -> None:
    failure = run.failure
    if failure is None:
        return
    kind = getattr(errors, failure["kind"], None)
    if kind is None:
        raise RuntimeError(f"a train worker failed:\n{failure['trace']}")
    raise kind(failure["message"])


def _last_line(error: TrainingFailedError) -> str:
    return str(error).strip().splitlines()[-1]
