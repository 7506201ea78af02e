"""Train and measure the cells of a comparison: ordinary policy runs, as many at a time as the cluster has room for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray

from wmtp_ray.cluster.job import run_training_job
from wmtp_ray.cluster.matrix import JOB, Cell, held_out_plan
from wmtp_ray.cluster.policy import PolicySide, scorer_use
from wmtp_ray.cluster.resources import rooms
from wmtp_ray.cluster.stopping import on_sigterm
from wmtp_ray.cluster.train import training_resources
from wmtp_ray.config.command import Flags
from wmtp_ray.config.data import SamplingConfig
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan
from wmtp_ray.data.store import SolutionStore, store_path
from wmtp_ray.errors import StoppedError, StorageError
from wmtp_ray.models.scorer import next_token_losses
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.training.metrics_file import read_metrics
from wmtp_ray.training.policy_objective import WeightedMTPObjective

MEASURED = "held_out.json"


@dataclass(frozen=True)
class CellSide(PolicySide):
    """A policy that is also measured on the comparison's held-out problems, as it stands after the last step."""

    held_out: SamplingConfig = field(kw_only=True)

    def export(
        self, objective: WeightedMTPObjective, run: RunDirectory, held_out: Iterator[MicroBatch]
    ) -> None:
        """The adapter (or the model, where there is none), and `held_out.json`: each held-out program's loss."""
        super().export(objective, run, held_out)
        path = store_path(self.config.storage.root, self.config.data.store)
        store, policy = SolutionStore.open(path, check="sizes"), objective.model
        plan = held_out_plan(store, self.held_out, self.config.data.plan)
        tokenizer = load_tokenizer(policy.source)
        device = next(policy.parameters()).device
        rows: dict[str, list[Any]] = {"row": [], "loss": [], "tokens": []}
        for step in plan.steps():
            for planned in step.micro_batches:
                batch = load_micro_batch(store, tokenizer, planned)
                for row, losses in zip(planned.rows, next_token_losses(policy, batch, device), strict=True):
                    rows["row"].append(int(row))
                    rows["loss"].append(float(losses.sum(dtype=np.float64)))
                    rows["tokens"].append(len(losses))
        run.write(MEASURED, json.dumps({"plan": plan.fingerprint} | rows))


def train_cells(
    cells: Sequence[Cell], held_out: SamplingConfig, most: int | None, say: Callable[[str], None]
) -> None:
    """Train those that are not finished. This process must be connected to Ray.

    As many at a time as there is room for, at most `most`: cells that do not fit beside each other could wait for each
    other's resources for ever. If one fails, or the job is asked to stop, no other is begun, and those under way end
    first: asked, each with a checkpoint after the step in progress.
    """
    todo = [cell for cell in cells if not cell.finished]
    room = min(map(_room, todo), default=1) if ray.is_initialized() else 1
    at_a_time = min(len(todo), max(1, room), most or len(todo))
    if at_a_time <= 1:
        for number, cell in enumerate(todo, start=1):
            say(f"cell {number} of {len(todo)}")
            _train(cell, held_out)
        return
    say(f"{len(todo)} cells, {at_a_time} at a time")
    over, asked = threading.Event(), threading.Event()

    def train(cell: Cell) -> None:
        if over.is_set():
            raise StoppedError(f"{cell.run.path.name} was not begun; the same command goes on with it")
        try:
            _train(cell, held_out)
        except BaseException:
            over.set()
            raise

    def stop() -> None:
        over.set()
        asked.set()

    def until_done() -> None:
        while wait(cells_at_work, timeout=1.0).not_done:
            if asked.is_set():  # again and again: one may be between its start and its first attempt
                _ask_to_stop(todo)

    with on_sigterm(stop), ThreadPoolExecutor(at_a_time) as pool:
        cells_at_work = [pool.submit(train, cell) for cell in todo]
        try:
            until_done()
        except BaseException:
            stop()
            until_done()
            raise
    failed = [error for one in cells_at_work if (error := one.exception()) is not None]
    for error in sorted(failed, key=lambda error: isinstance(error, StoppedError)):
        raise error


def _ask_to_stop(cells: Sequence[Cell]) -> None:
    for cell in cells:
        attempt = cell.run.attempt
        if attempt is not None and not cell.finished and not cell.run.stop_requested(attempt):
            cell.run.request_stop(attempt)


def require_unchanged(cells: Sequence[Cell], base_fingerprint: str) -> None:
    """A finished cell is taken as it is: it must have been trained as the comparison says now, on the data, the model
    and the critic that are there now. `ConfigError` or `StorageError` name what differs."""
    for cell in cells:
        if not cell.finished:
            continue
        cell.run.refuse_changes(cell.config)
        then, use = (cell.run.result or {}).get("fingerprints", {}), scorer_use(cell.config)
        now = {"plan": cell.plan.fingerprint, "model": base_fingerprint}
        if use is not None:
            now[use.section] = "+".join(engine.fingerprint for engine in use.engines())
        for what, fingerprint in now.items():
            if then.get(what) != fingerprint:
                raise StorageError(
                    f"{cell.run.path} was trained with another {what} than the one that is there now; start anew with "
                    "--fresh, or give the comparison another name"
                )


def losses_by_problem(cell: Cell, held_out: Plan, row_problem: np.ndarray) -> np.ndarray:
    """[P] nats per token of each held-out problem's programs, problems in the order of the store."""
    measured = json.loads((cell.run.path / MEASURED).read_text())
    if measured["plan"] != held_out.fingerprint:
        raise StorageError(
            f"{cell.run.path} was measured on other held-out programs; start anew with --fresh, or give the comparison "
            "another name"
        )
    _, problem = np.unique(row_problem[measured["row"]], return_inverse=True)
    return np.bincount(problem, measured["loss"]) / np.bincount(problem, measured["tokens"])


def device_seconds(run: RunDirectory) -> float:
    """Time of a run's optimizer steps times its train workers, and of the scoring that no cache saved it."""
    steps = [r for r in read_metrics(run.metrics) if "tokens" in r]
    return sum(r["seconds"] * r["workers"] + r.get("score_seconds", 0.0) for r in steps)


def _train(cell: Cell, held_out: SamplingConfig) -> None:
    side = CellSide(cell.config, merged=False, held_out=held_out)
    run_training_job(JOB, cell.config, side, Flags(dry_run=False, fresh=False), scorer_use(cell.config))


def _room(cell: Cell) -> int:
    """How many such cells the cluster could hold at a time."""
    cluster = cell.config.cluster
    return rooms(
        ray.cluster_resources(),
        training_resources(cluster, scorer_use(cell.config), cluster.worker_range[1]),
    )
