"""Whole training runs in this process, as a worker would do them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.scenes import LocalFeed, Scene, Values
from wmtp_ray.config.run import CheckpointConfig, OptimizerConfig, ScheduleConfig, ValidationConfig
from wmtp_ray.config.weighting import CriticWeighting
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.feed import Feed
from wmtp_ray.training.metrics_file import read_metrics
from wmtp_ray.training.objective import Metrics, Objective
from wmtp_ray.training.sharding import EvenFeed, shard_layers
from wmtp_ray.training.trainer import Trainer, TrainerConfig

FINGERPRINTS = {"plan": "p", "store": "s", "model": "m"}
CONFIG = TrainerConfig(
    seed=5,
    optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=0.1),
    schedule=ScheduleConfig(warmup_share=0.3),
    checkpoint=CheckpointConfig(every_steps=2, keep=1),
    validation=ValidationConfig(every_steps=3),
)
TIMES = (
    "time",
    "score_seconds",
    "seconds",
    "tokens_per_second",
    "padded_tokens_per_second",
    "score_wait_seconds",
    "peak_memory_bytes",
    "workers",
)

JOBS = ("critic", "step_critic", "policy")


def objective_of(scene: Scene, job: str, dropout: float, seed: int = CONFIG.seed) -> Objective:
    """What `job` minimises, with its model as it is before the first step."""
    if job == "critic":
        return scene.critic_objective(scene.critic(dropout=dropout))
    if job == "step_critic":
        return scene.step_objective(scene.critic(dropout=dropout), seed)
    weighting = CriticWeighting(normalize="mean_one", ema_warmup_steps=2)
    return scene.policy_objective(scene.policy(2, dropout=dropout), weighting)


def trainer_of(
    scene: Scene,
    job: str,
    path: Path,
    values: Values | None,
    *,
    dropout: float = 0.1,
    dies_at: int | None = None,
    attempt: str | None = None,
    notice: Callable[[str], None] = lambda line: None,
    collective: Collective | None = None,
    config: TrainerConfig = CONFIG,
    sharded: bool = False,
    **plan: Any,
) -> Trainer:
    """A trainer of 5 steps of 3 micro-batches, the last step smaller (`plan` changes it); validation on 2 samples."""
    solutions = "correct" if job == "policy" else "pairs"
    run = RunDirectory(path)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    collective = collective or Collective()
    layout: dict[str, Any] = {"micro_batches_per_step": 3, "samples_per_micro_batch": 1}
    objective = objective_of(scene, job, dropout, config.seed)
    feed: Feed = LocalFeed(
        scene,
        values if job == "policy" else None,
        rank=collective.rank,
        world_size=collective.world_size,
        dies_at=dies_at,
    )
    if sharded:
        shard_layers(objective.model, "cpu")
        feed = EvenFeed(feed, collective)
    return Trainer(
        config=config,
        run=run,
        attempt=attempt or run.begin_attempt(),
        objective=objective,
        plan=scene.plan(solutions, **({"samples": 13} | layout | plan)),
        validation_plan=scene.plan(solutions, "valid", samples=2, **layout),
        feed=feed,
        collective=collective,
        fingerprints=FINGERPRINTS,
        notice=notice,
    )


def records(path: Path) -> list[dict[str, Any]]:
    """The metrics of a run without what depends on the clock."""
    return [{k: v for k, v in r.items() if k not in TIMES} for r in read_metrics(path / "metrics.jsonl")]


def assert_same_metrics(left: Metrics, right: Metrics, tolerance: float = 1e-5) -> None:
    """Every metric, also of histograms, is equal to `tolerance`."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value == pytest.approx(right[name], rel=tolerance, abs=tolerance), name
