"""A worker's side of scoring: micro-batches go to the pool ahead of their use and come back with what was asked."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayActorError, RayError

from actors.answers import answer
from actors.board import WorkerLoad
from actors.critic import BatchScores
from wmtp_ray.cluster.scoring import NAMESPACE, ScoreAccess
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.folds import row_folds
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.segments import take_samples
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import InfraError
from wmtp_ray.models.scorer import join_losses, join_values


@dataclass(frozen=True)
class _Call:
    """One batch under way to one actor: all samples of a micro-batch, or those of one fold."""

    fold: int
    chosen_S: np.ndarray
    actor: str
    scores: ray.ObjectRef


@dataclass(frozen=True)
class _Submitted:
    micro_batch: MicroBatch
    folds_S: np.ndarray | None
    calls: list[_Call]


class ScoreAhead:
    """Fetches the scores of each micro-batch ahead of its use: always those of the next step, and of further ones while
    fewer than `window` micro-batches are in scoring."""

    def __init__(self, access: ScoreAccess, store: Path, rank: int = 0, world_size: int = 1) -> None:
        self._access = access
        self._groups = [
            _Group(names, board, rank, world_size)
            for names, board in zip(access.groups, access.boards, strict=True)
        ]
        self._folds_N = None
        if len(self._groups) > 1:
            self._folds_N = row_folds(SolutionStore.open(store, check="sizes").index, len(self._groups))
        self.wait_seconds = 0.0
        """Time spent waiting for scores since the start."""
        self.score_seconds = 0.0
        """Time that the actors computed for the scores that came."""
        self.samples = self.cached_samples = 0
        """Samples scored since the start, and how many of them the cache had."""

    def __call__(self, steps: Iterator[list[MicroBatch]]) -> Iterator[list[MicroBatch]]:
        """The same steps in the same order, every micro-batch with its scores."""
        ahead: deque[list[_Submitted]] = deque()
        self._fill(ahead, steps)
        while ahead:
            current = ahead.popleft()
            self._fill(ahead, steps)
            yield [self._await(submitted) for submitted in current]
            for group in self._groups:
                group.exchange(self.wait_seconds)

    @property
    def queue_depth(self) -> int:
        """Calls to the pool that are under way."""
        return sum(sum(group.pending.values()) for group in self._groups)

    def _fill(self, ahead: deque[list[_Submitted]], steps: Iterator[list[MicroBatch]]) -> None:
        while not ahead or sum(map(len, ahead)) < self._access.window:
            step = next(steps, None)
            if step is None:
                return
            ahead.append([self._submit(micro_batch) for micro_batch in step])

    def _submit(self, micro_batch: MicroBatch) -> _Submitted:
        """Training problems of cross-fitted critics go to the one that did not see them, all others to every critic."""
        everything = np.ones(len(micro_batch.batch.sample_ids), dtype=bool)
        if self._folds_N is None:
            calls = [group.call(0, micro_batch.batch, everything) for group in self._groups]
            return _Submitted(micro_batch, None, calls)
        folds_S = self._folds_N[micro_batch.batch.sample_ids.numpy()]
        held_out = bool((folds_S < 0).all())
        calls = []
        for fold, group in enumerate(self._groups):
            chosen_S = everything if held_out else folds_S == fold
            if chosen_S.any():
                batch = micro_batch.batch if chosen_S.all() else take_samples(micro_batch.batch, chosen_S)
                calls.append(group.call(fold, batch, chosen_S))
        return _Submitted(micro_batch, None if held_out else folds_S, calls)

    def _await(self, submitted: _Submitted) -> MicroBatch:
        micro_batch, batch = submitted.micro_batch, submitted.micro_batch.batch
        answers = [self._answer(call) for call in submitted.calls]
        if self._access.scored == "reference_losses":
            return replace(micro_batch, reference_losses_RT=join_losses(answers[0], batch))
        if submitted.folds_S is not None:
            own: list[np.ndarray] = [np.empty(0)] * len(batch.sample_ids)
            for call, samples in zip(submitted.calls, answers, strict=True):
                for place, scores in zip(np.flatnonzero(call.chosen_S), samples, strict=True):
                    own[place] = scores
            return replace(micro_batch, values_RT=join_values(own, batch), folds_S=submitted.folds_S)
        by_fold = [join_values(samples, batch) for samples in answers]
        if len(by_fold) == 1:
            return replace(micro_batch, values_RT=by_fold[0])
        values_FRT = torch.stack(by_fold)
        return replace(micro_batch, values_RT=values_FRT.mean(dim=0), fold_values_FRT=values_FRT)

    def _answer(self, call: _Call) -> list[np.ndarray]:
        started = time.perf_counter()
        try:
            scores: BatchScores = answer(call.scores)
        except RayActorError as error:
            raise InfraError(
                f"critic actor {call.actor} died more often than max_task_retries allows: {error}"
            ) from error
        self.wait_seconds += time.perf_counter() - started
        self._groups[call.fold].pending[call.actor] -= 1
        self.samples += len(scores.samples)
        self.cached_samples += scores.cached
        self.score_seconds += scores.seconds
        return scores.samples


class _Group:
    """The actors of one fold, as a worker sees them."""

    def __init__(self, names: Sequence[str], board: str, rank: int, world_size: int) -> None:
        self._actors: dict[str, Any] = {}
        self._take(names)
        self._board = ray.get_actor(board, namespace=NAMESPACE)
        self._answer: ray.ObjectRef | None = None
        self._place = (rank, world_size)
        self.pending: Counter[str] = Counter()

    def call(self, fold: int, batch: PackedBatch, chosen_S: np.ndarray) -> _Call:
        """Ask the least busy actor."""
        name = min(self._actors, key=lambda name: self.pending[name])
        self.pending[name] += 1
        return _Call(fold, chosen_S, name, self._actors[name].score.remote(batch))

    def exchange(self, waited: float) -> None:
        """Report to the board, and take up the names that an earlier report brought, without waiting for either."""
        try:
            if self._answer is not None:
                done, _ = ray.wait([self._answer], timeout=0)
                if not done:
                    return
                if names := ray.get(done[0]):
                    self._take(names)
            load = WorkerLoad(waited, dict(self.pending), tuple(self._actors))
            self._answer = self._board.report.remote(*self._place, load)
        except (RayError, ValueError):  # no board, or no actor of a new name: go on with those that are known
            self._answer = None

    def _take(self, names: Sequence[str]) -> None:
        self._actors = {
            name: self._actors.get(name) or ray.get_actor(name, namespace=NAMESPACE) for name in names
        }
