"""A frozen model that scores packed micro-batches: the critic, or Rho-1's reference. The driver of a run owns a pool
of these named actors; train workers call them ahead of training. The model is loaded at the first score that the cache
does not have."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import ray
import torch

from actors.answers import answer
from actors.measures import CriticMeasures
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.models.score_engine import EngineSettings, ScoreEngine, load_engine
from wmtp_ray.models.scorer import score_keys
from wmtp_ray.storage.runs import RunDirectory


@dataclass(frozen=True)
class BatchScores:
    """Scores of the samples of one batch, float32, how many of them the cache had, and the seconds of the forward."""

    samples: list[np.ndarray]
    cached: int
    seconds: float


class CriticActor:
    """Scores with the model that `settings` describe, asking the `ScoreCache` actor named `cache` first.

    `run`: where it leaves word of its own death, once it lives again."""

    def __init__(self, settings: EngineSettings, cache: str, threads: int, run: Path | None = None) -> None:
        if run is not None and ray.get_runtime_context().was_current_actor_reconstructed:
            RunDirectory(run).notice(
                "a critic actor died and was started again; its unfinished calls are repeated"
            )
        torch.set_num_threads(threads)
        self._settings, self._threads = settings, threads
        self._cache = ray.get_actor(cache)  # by name: a handle would not survive this actor's own restart
        self._device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self._engine: ScoreEngine | None = None
        self._measures = CriticMeasures(settings.scored)

    @cached_property
    def _identity(self) -> str:
        # Not in the constructor: an actor whose constructor fails is not there, and nobody learns why.
        return self._settings.identity(self._device.type)

    def ready(self) -> bool:
        """Returns once the actor's process runs."""
        return True

    def score(self, batch: PackedBatch) -> BatchScores:
        """Scores of one batch. One miss scores the whole batch anew, so that a score never depends on what happened to
        be cached; where another writer was first, its score is used."""
        keys = score_keys(batch, self._identity)
        stored: list[bytes | None] = answer(self._cache.get.remote(keys))
        cached, seconds = len(keys) - stored.count(None), 0.0
        self._measures.asked(len(keys))
        if None in stored:
            samples, seconds = self._forward(batch)
            stored = answer(self._cache.put.remote(keys, samples))
        return BatchScores(
            [np.frombuffer(s, dtype=np.float32) for s in stored if s is not None], cached, seconds
        )

    def _forward(self, batch: PackedBatch) -> tuple[list[bytes], float]:
        """Scores of the model, and the seconds that they took."""
        engine = self._load()
        started = time.perf_counter()
        samples = [scores.tobytes() for scores in engine.score(batch)]
        seconds = time.perf_counter() - started
        self._measures.forward(batch.input_ids.numel(), seconds)
        return samples, seconds

    def _load(self) -> ScoreEngine:
        if self._engine is None:
            self._engine = load_engine(self._settings, self._device, self._threads)
        return self._engine
