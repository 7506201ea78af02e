"""A frozen value model that scores packed micro-batches. The driver of a run owns a pool of these named actors; train
workers call them ahead of training. The model is loaded at the first score that the cache does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ray
import torch
from ray.exceptions import RayTaskError

from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.errors import WMTPError
from wmtp_ray.models.scorer import join_values, score, score_keys
from wmtp_ray.models.value_model import KIND, ValueModel
from wmtp_ray.storage import read_manifest


class CriticActor:
    """Scores with the critic exported at `directory`, asking the `ScoreCache` actor named `cache` first.

    `models` is where converted backbones are kept.
    """

    def __init__(self, directory: str, models: str, cache: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._directory, self._models = Path(directory), Path(models)
        self._cache = ray.get_actor(cache)  # by name: a handle would not survive this actor's own restart
        self._device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self._scorer = (
            f"{read_manifest(self._directory, KIND).fingerprint}/transformers-sdpa/{self._device.type}"
        )
        self._model: ValueModel | None = None
        self._forwards = 0

    def score(self, batch: PackedBatch) -> np.ndarray:
        """Values [R, T] float32 of one micro-batch. One miss rescores the whole micro-batch, so that a value never
        depends on what happened to be cached; where another writer was first, its value is used."""
        keys = score_keys(batch, self._scorer)
        stored: list[bytes | None] = _asked(self._cache.get.remote(keys))
        if None in stored:
            samples = [scores.tobytes() for scores in score(self._load(), batch, self._device)]
            self._forwards += 1
            stored = _asked(self._cache.put.remote(keys, samples))
        return join_values(
            [np.frombuffer(s, dtype=np.float32) for s in stored if s is not None], batch
        ).numpy()

    def forwards(self) -> int:
        """Micro-batches that this actor passed through the model since it started."""
        return self._forwards

    def _load(self) -> ValueModel:
        if self._model is None:
            self._model = ValueModel.load(self._directory, cache_dir=self._models).to(self._device).eval()
        return self._model


def _asked(answer: ray.ObjectRef) -> list[bytes | None]:
    """What the cache answered; its own error where it failed, as if it had been met here."""
    try:
        return ray.get(answer)
    except RayTaskError as error:
        if isinstance(error.cause, WMTPError):
            raise error.cause from None
        raise
