"""The training loop: plain PyTorch, one for every job, in one process or many.

    restore ─► validate ─► [ share of a step ─► prepare ─► backward each ─► sum gradients ─► update ]* ─► validate

The rows of a step come from the plan, so what a step computes does not depend on the number of ranks: each sums its
own micro-batches, and gradients and statistics are summed over ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wmtp_ray.config.run import CheckpointConfig, OptimizerConfig, ScheduleConfig, ValidationConfig
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan, PlannedStep
from wmtp_ray.errors import DataError, InfraError
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.storage.timeline import timed
from wmtp_ray.training import held_out
from wmtp_ray.training.best_step import BestSoFar
from wmtp_ray.training.checkpoint import TrainingState, load_step, save_checkpoint
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.feed import Feed
from wmtp_ray.training.generator import seed_generators
from wmtp_ray.training.metrics_file import MetricsFile
from wmtp_ray.training.objective import Metrics, Objective
from wmtp_ray.training.optimizer import build_optimizer, learning_rates, load_moments
from wmtp_ray.training.resume import find_start, same_weighting, trained_steps
from wmtp_ray.training.schedule import build_schedule
from wmtp_ray.training.sharding import clip_gradients, placed_like, whole
from wmtp_ray.training.trackers import NoTracker, Tracker
from wmtp_ray.training.use import RankUse, StepUse


@dataclass(frozen=True)
class TrainerConfig:
    """The sections of a job's configuration that the loop itself reads."""

    seed: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    checkpoint: CheckpointConfig
    validation: ValidationConfig
    resume: Path | None = None
    """The run directory whose newest checkpoint a run without one of its own begins with."""
    resume_allow: tuple[str, ...] = ()


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
    tracker: Tracker = field(default_factory=NoTracker)
    """Receives every record, on rank 0."""
    _steps_done: int = field(init=False, default=0)
    _first_step: int = field(init=False, default=0)
    _best: BestSoFar = field(init=False)

    def __post_init__(self) -> None:
        self._best = BestSoFar(self.config.checkpoint)

    def train(self) -> bool:
        """Run every step of the plan that no checkpoint covers yet. Asked to stop or to make way for more, save a
        checkpoint after the step in progress and return False."""
        self._optimizer = build_optimizer(self.objective.model, self.config.optimizer)
        new = not self._restore()
        self._schedule = build_schedule(
            self._optimizer, self.plan.num_steps, self.config.schedule, self._steps_done
        )
        log = MetricsFile(self.run.metrics, 0 if new else self._steps_done) if self._is_first else None
        if new and self.config.validation.before_training and (first := self._validate()):
            self._best.value_in(first)
            self._log(log, {"step": self._steps_done, **first})
        self._first_step = self._steps_done
        shares = self.feed(self.plan, self._first_step)
        stop = False
        while self._steps_done < self.plan.num_steps and not stop:
            record, stop = self._step(shares)
            improved = False
            if self._due(self.config.validation.every_steps):
                validation = self._validate()
                record |= validation
                improved = bool(validation) and self._best.note(self._steps_done, validation)
                if improved or self.config.checkpoint.export == "last":
                    self._write_pairs()
            self._log(log, record)
            if improved or stop or self._due(self.config.checkpoint.every_steps):
                self._save(log)
        if log:
            log.close()
            self.tracker.close()
        return self._steps_done == self.plan.num_steps

    def load_exported(self, objective: Objective) -> int:
        """Give `objective`, the trained one or another of its kind that is whole, the parameters of the step that users
        take away, with its statistics or, where those are of another weighting, the present ones; returns the step."""
        best = self._best.found if self.config.checkpoint.export == "best" else None
        if self.config.checkpoint.export == "best" and best is None:
            self._notice_once(f"no best step is known: what is exported is the last, {self._steps_done}")
        step = best.step if best else self._steps_done
        if objective is not self.objective or step != self._steps_done:
            checkpoint, ours = load_step(self.run.checkpoints, step), self.objective.state_dict()
            objective.model.load_trainable_state_dict(checkpoint.parameters)
            same = same_weighting(checkpoint.state, ours, self.fingerprints)
            objective.load_state_dict(checkpoint.state.objective if same else ours)
        return step

    @property
    def _is_first(self) -> bool:
        return self.collective.rank == 0

    @property
    def _timeline(self) -> Path | None:
        return self.run.path if self._is_first else None

    def _log(self, log: MetricsFile | None, record: dict[str, Any]) -> None:
        if log:
            log.append(record)
            self.tracker.log(record)

    def _due(self, every: int | None) -> bool:
        return self._steps_done == self.plan.num_steps or (
            every is not None and self._steps_done % every == 0
        )

    def _step(self, shares: Iterator[list[MicroBatch]]) -> tuple[dict[str, Any], bool]:
        """One optimizer step: its record, and whether any rank was asked to stop."""
        started, before = time.perf_counter(), self.feed.use()
        step = self.plan.step(self._steps_done)
        mine = next(shares)
        asked = self.run.stop_requested(self.attempt) or self.run.growth_requested(self.attempt)
        use = RankUse.of(mine, before, self.feed.use(), asked)
        self.objective.model.train()
        with _naming_samples(step):
            self.objective.prepare(step, mine, self.collective)
            for micro_batch in mine:
                seed_generators(self.config.seed, step.number, micro_batch.number)
                with _naming_samples(step, micro_batch.number):
                    self.objective.backward(micro_batch)
        parameters = [p for p in self.objective.model.trainable_parameters().values() if p.requires_grad]
        self.collective.sum_gradients(parameters)
        norm = clip_gradients(parameters, self.config.optimizer.max_grad_norm, self.collective)
        if not torch.isfinite(norm):
            samples = [s for micro_batch in step.micro_batches for s in micro_batch.rows]
            raise DataError(f"the gradient of step {step.number} is not finite; its samples are {samples}")
        rates = learning_rates(self._optimizer)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        metrics = self.objective.metrics(self.collective)
        if self._steps_done == self._first_step and self.validation_plan.num_steps:
            self._best.value_in(_of_validation(metrics))
        uses = StepUse.of(self.collective.gather(use), step)
        self._steps_done += 1
        seconds = time.perf_counter() - started
        record = {
            "step": self._steps_done,
            "epoch": step.epoch,
            "time": time.time(),
            **metrics,
            "grad_norm": norm.item(),
            **rates,
            **uses.metrics(seconds),
        }
        return record, uses.stop

    def _validate(self) -> Metrics:
        """Metrics over the held-out plan, named `val_...`; empty without held-out problems."""
        if self.validation_plan.num_steps == 0:
            return {}
        self.objective.model.eval()
        with timed(self._timeline, "validation"), torch.no_grad():
            shares = self.feed(self.validation_plan, 0)
            metrics = self.objective.evaluate((m for share in shares for m in share), self.collective)
        return _of_validation(metrics)

    def _write_pairs(self) -> None:
        """What the last validation found of each pair; the file stays that of the step which users take away."""
        if self._is_first and self.objective.held_out_pairs:
            self.run.write(held_out.FILE, held_out.as_lines(self._steps_done, self.objective.held_out_pairs))

    def _save(self, log: MetricsFile | None) -> None:
        if log:
            log.sync()
        with timed(self._timeline, "checkpoint"):
            self._save_whole()

    def _save_whole(self) -> None:
        # Sharded tensors are put together by all ranks, the files are rank 0's.
        states = (self.objective.model.trainable_state_dict(), self._optimizer.state_dict())
        parameters, optimizer = whole(states, kept=self._is_first)
        if self._is_first:
            self.run.require_current(self.attempt)
            state = TrainingState(
                step=self._steps_done,
                objective=self.objective.state_dict(),
                fingerprints=self.fingerprints,
                trained_steps=trained_steps(self.plan, self._steps_done),
                best=self._best.found,
            )
            save_checkpoint(self.run.checkpoints, state, parameters, optimizer, self.config.checkpoint.keep)
        self.collective.barrier()

    def _restore(self) -> bool:
        """Take up the newest checkpoint of this run (True), or else of `resume`, or else begin anew."""
        start, damaged = find_start(
            self.run, self.config.resume, self.config.resume_allow, self.plan, self.fingerprints
        )
        found = set(self.collective.gather(start.checkpoint.state.step if start else 0))
        if len(found) > 1:
            raise InfraError(
                f"the ranks found different newest checkpoints in {self.run.checkpoints}: steps {found}"
            )
        for problem in damaged:
            self._notice_once(f"passed over a damaged checkpoint: {problem}")
        if start is None:
            return False
        checkpoint, model = start.checkpoint, self.objective.model
        model.load_trainable_state_dict(placed_like(checkpoint.parameters, model.trainable_state_dict()))
        load_moments(self._optimizer, checkpoint.optimizer)
        ours = self.objective.state_dict()
        if same_weighting(checkpoint.state, ours, self.fingerprints):
            self.objective.load_state_dict(checkpoint.state.objective)
        else:
            self._notice_once(
                "the weighting, or the model that it reads, is another one than before: its statistics begin anew"
            )
        self._steps_done = start.step
        if start.is_own and (gone := self._best.take_up(checkpoint.state.best, self.run.checkpoints)):
            self._notice_once(gone)
        self._notice_once(start.sentence)
        return start.is_own

    def _notice_once(self, line: str) -> None:
        if self._is_first:
            self.notice(line)


def _of_validation(metrics: Metrics) -> Metrics:
    return {f"val_{name}": value for name, value in metrics.items()}


@contextmanager
def _naming_samples(step: PlannedStep, number: int | None = None) -> Iterator[None]:
    """A `DataError` met inside also says which samples lie in which packed row: of micro-batch `number`, or of each."""
    try:
        yield
    except DataError as error:
        if "samples of step" in str(error):
            raise
        chosen = range(len(step.micro_batches)) if number is None else [number]
        rows = {m: step.micro_batches[m].packed_rows for m in chosen if m < len(step.micro_batches)}
        listed = "; ".join(f"micro-batch {m} has {list(map(list, of))}" for m, of in rows.items())
        raise DataError(f"{error}; samples of step {step.number} by packed row: {listed}") from None
