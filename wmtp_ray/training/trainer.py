"""The training loop: plain PyTorch, one for every job, in one process or many.

    restore ─► validate ─► [ share of a step ─► prepare ─► backward each ─► sum gradients ─► update ]* ─► validate

The rows of a step come from the plan, so what a step computes does not depend on the number of ranks: each sums its
own micro-batches, and gradients and statistics are summed over ranks.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from wmtp_ray.config.run import CheckpointConfig, OptimizerConfig, ScheduleConfig, ValidationConfig
from wmtp_ray.data.plan import Plan
from wmtp_ray.errors import DataError, InfraError, StorageError
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.batch import MicroBatch
from wmtp_ray.training.checkpoint import TrainingState, load_latest, save_checkpoint
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.metrics_file import MetricsFile
from wmtp_ray.training.objective import Metrics, Objective
from wmtp_ray.training.optimizer import build_optimizer
from wmtp_ray.training.schedule import build_schedule


class Feed(Protocol):
    """Where a rank's micro-batches come from: step by step from `first_step` to the plan's end."""

    def __call__(self, plan: Plan, first_step: int) -> Iterator[list[MicroBatch]]: ...

    @property
    def wait_seconds(self) -> float:
        """Time that this rank has spent waiting for scores."""
        ...


@dataclass(frozen=True)
class TrainerConfig:
    """The sections of a job's configuration that the loop itself reads."""

    seed: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    checkpoint: CheckpointConfig
    validation: ValidationConfig


@dataclass
class Trainer:
    """One rank's side of a training run."""

    config: TrainerConfig
    run: RunDirectory
    attempt: str
    objective: Objective
    plan: Plan
    validation_plan: Plan
    feed: Feed
    collective: Collective
    fingerprints: dict[str, str]
    notice: Callable[[str], None]
    """Receives one line for everything the user should know (a resume, a damaged checkpoint)."""
    _optimizer: torch.optim.Optimizer = field(init=False)
    _steps_done: int = field(init=False, default=0)

    def train(self) -> None:
        """Run every step of the plan that no checkpoint covers yet."""
        self._optimizer = build_optimizer(self.objective.model, self.config.optimizer)
        self._schedule = build_schedule(self._optimizer, self.plan.num_steps, self.config.schedule)
        self._restore()
        log = MetricsFile(self.run.metrics, self._steps_done) if self.collective.rank == 0 else None
        if self._steps_done == 0 and (first := self._validate()) and log:
            log.append({"step": 0, **first})
        shares = self.feed(self.plan, self._steps_done)
        while self._steps_done < self.plan.num_steps:
            record = self._step(shares)
            if self._due(self.config.validation.every_steps):
                record |= self._validate()
            if log:
                log.append(record)
            if self._due(self.config.checkpoint.every_steps):
                self._save()
        if log:
            log.close()

    def _due(self, every: int | None) -> bool:
        return self._steps_done == self.plan.num_steps or (
            every is not None and self._steps_done % every == 0
        )

    def _step(self, shares: Iterator[list[MicroBatch]]) -> dict[str, Any]:
        started, waited = time.perf_counter(), self.feed.wait_seconds
        step = self.plan.step(self._steps_done)
        mine = next(shares)
        waited = self.feed.wait_seconds - waited
        self.objective.model.train()
        self.objective.prepare(step, mine, self.collective)
        for micro_batch in mine:
            torch.manual_seed(_generator_seed(self.config.seed, self._steps_done, micro_batch.number))
            self.objective.backward(micro_batch)
        parameters = [p for p in self.objective.model.trainable_parameters().values() if p.requires_grad]
        self.collective.sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.optimizer.max_grad_norm)
        if not torch.isfinite(norm):
            samples = [s for micro_batch in step.micro_batches for s in micro_batch.rows]
            raise DataError(
                f"the gradient of step {self._steps_done} is not finite; its samples are {samples}"
            )
        rates = self._schedule.get_last_lr()
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        metrics = self.objective.metrics(self.collective)
        self._steps_done += 1
        seconds = time.perf_counter() - started
        return {
            "step": self._steps_done,
            "epoch": step.epoch,
            **metrics,
            "grad_norm": norm.item(),
            "learning_rate": rates[0],
            "tokens": step.tokens,
            "tokens_per_second": step.tokens / seconds,
            "seconds": seconds,
            "score_wait_seconds": waited,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    def _validate(self) -> Metrics:
        """Metrics over the held-out plan, named `val_...`; empty without held-out problems."""
        if self.validation_plan.num_steps == 0:
            return {}
        self.objective.model.eval()
        with torch.no_grad():
            shares = self.feed(self.validation_plan, 0)
            metrics = self.objective.evaluate((m for share in shares for m in share), self.collective)
        return {f"val_{name}": value for name, value in metrics.items()}

    def _save(self) -> None:
        if self.collective.rank == 0:
            if not self.run.is_current(self.attempt):
                raise StorageError(
                    f"{self.run.path} was taken over by a newer start of the same run; this one stops"
                )
            state = TrainingState(
                step=self._steps_done,
                schedule=self._schedule.state_dict(),
                objective=self.objective.state_dict(),
                fingerprints=self.fingerprints,
            )
            parameters = self.objective.model.trainable_state_dict()
            save_checkpoint(
                self.run.checkpoints,
                state,
                parameters,
                self._optimizer.state_dict(),
                self.config.checkpoint.keep,
            )
        self.collective.barrier()

    def _restore(self) -> None:
        checkpoint, damaged = load_latest(self.run.checkpoints, self.fingerprints)
        found = set(self.collective.gather(checkpoint.state.step if checkpoint else 0))
        if len(found) > 1:
            raise InfraError(
                f"the ranks found different newest checkpoints in {self.run.checkpoints}: steps {found}"
            )
        if self.collective.rank == 0:
            for problem in damaged:
                self.notice(f"passed over a damaged checkpoint: {problem}")
        if checkpoint is None:
            return
        self.objective.model.load_trainable_state_dict(checkpoint.parameters)
        self._optimizer.load_state_dict(checkpoint.optimizer)
        self._schedule.load_state_dict(checkpoint.state.schedule)
        self.objective.load_state_dict(checkpoint.state.objective)
        self._steps_done = checkpoint.state.step
        if self.collective.rank == 0:
            self.notice(f"resumed after step {self._steps_done} of {self.plan.num_steps}")


def _generator_seed(*parts: int) -> int:
    """A 63-bit seed from (seed, step, micro-batch): dropout depends on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
