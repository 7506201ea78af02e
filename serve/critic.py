"""The critic that a replica serves: loaded once, tried out, then never changed."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from serve.pieces import backend_of
from wmtp_ray.client.wire import CriticIdentity
from wmtp_ray.config.serve import ServedCriticConfig
from wmtp_ray.data.batch import pack
from wmtp_ray.data.prompt import TokenizedSample, pad_token_id, tokenize_sample
from wmtp_ray.errors import ConfigError, StorageError
from wmtp_ray.models.scorer import score
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.models.value_model import KIND, ValueModel, read_card
from wmtp_ray.storage import read_manifest
from wmtp_ray.storage.runs import run_path

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = ("Return the sum of two numbers.", "def add(a, b):\n    return a + b\n")

PROBE_TOKENS = 1024


@dataclass(frozen=True)
class EMAStatistics:
    """Whitening statistics of a training run's last step."""

    mean: float
    std: float
    run: str


@dataclass(frozen=True)
class ServedCritic:
    """A frozen value model with its tokenizer, and what answers say of it."""

    model: ValueModel
    tokenizer: PreTrainedTokenizerBase
    identity: CriticIdentity
    device: torch.device
    max_tokens: int
    """Positions that the model has."""
    vocabulary: int
    """Token ids that it knows: 0 to vocabulary - 1."""
    ranks: bool
    """Whether it was trained by ranking: its values then have neither scale nor offset."""
    tokens_per_second: float
    """Of the probe: a first estimate."""

    @classmethod
    def load(cls, config: ServedCriticConfig, storage: Path) -> ServedCritic:
        """Read, verify and try out the critic that `config` names.

        Errors: `StorageError` or `ModelError` where it is missing, damaged or does not fit; `DataError` where the
        probe's values are not finite.
        """
        directory = critic_directory(config, storage)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = ValueModel.load(directory, dtype=config.dtype, cache_dir=storage / "models").to(device)
        card = read_card(directory)
        tokenizer = load_tokenizer(model.source)
        backend_of(tokenizer)
        fingerprint = _fingerprint(
            read_manifest(directory, KIND).fingerprint, card.config.dtype, model.config.dtype
        )
        identity = CriticIdentity(
            fingerprint=fingerprint,
            version=config.version or fingerprint[:12],
            dtype=model.config.dtype,
            tokenizer_fingerprint=card.tokenizer_fingerprint,
        )
        max_tokens = int(model.backbone.config.max_position_embeddings)
        sample = tokenize_sample(
            tokenizer, sample_id=0, instruction=PROBE[0], input="", output=PROBE[1], max_length=max_tokens
        )
        pad = pad_token_id(tokenizer)
        score(model, pack([[sample]], pad), device)  # the first forward pays for warming up
        rows = [[sample]] * max(1, PROBE_TOKENS // len(sample.token_ids))
        started = time.perf_counter()
        score(model, pack(rows, pad), device)
        rate = len(rows) * len(sample.token_ids) / (time.perf_counter() - started)
        return cls(
            model=model,
            tokenizer=tokenizer,
            identity=identity,
            device=device,
            max_tokens=max_tokens,
            vocabulary=int(model.backbone.config.vocab_size),
            ranks=card.training_config.get("objective", {}).get("method", "ranking") == "ranking",
            tokens_per_second=rate,
        )

    def score_rows(self, rows: list[list[TokenizedSample]]) -> list[np.ndarray]:
        """Values of each sample, row by row, in one forward: what `models.scorer` gives training."""
        return score(self.model, pack(rows, pad_token_id(self.tokenizer)), self.device)


def critic_directory(config: ServedCriticConfig, storage: Path) -> Path:
    """Where the exported critic lies; `ConfigError` for a run that is not there, with the remedy."""
    if config.path is not None:
        return Path(config.path).expanduser()
    directory = run_path(storage, "critic", config.run or "") / "export"
    if not (directory / "manifest.json").exists():
        raise ConfigError(
            f"critic.run = {config.run!r}: no finished critic in {directory}; train one (`make quickstart`), or set "
            "critic.run, storage.root, or critic.path with critic.run=null"
        )
    return directory


def read_ema(run: str | None, storage: Path) -> EMAStatistics | None:
    """The whitening statistics with which the weighted policy `run` ended; None where none is named.

    Errors: `StorageError` where that run has none.
    """
    if run is None:
        return None
    path = run_path(storage, "verifiable", run) / "metrics.jsonl"
    try:
        records = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise StorageError(
            f"critic.statistics_run = {run!r}: {path} cannot be read ({error}); name a weighted policy's run, or null"
        ) from error
    last = next((record for record in reversed(records) if "ema_mean" in record), None)
    if last is None:
        raise StorageError(
            f"critic.statistics_run = {run!r}: {path} has no ema_mean; name a weighted run, or null"
        )
    return EMAStatistics(float(last["ema_mean"]), float(last["ema_std"]), run)


def _fingerprint(exported: str, trained: str, served: str) -> str:
    """That of the export, which training jobs compare; in another dtype it is another critic."""
    return exported if served == trained else hashlib.sha256(f"{exported}/{served}".encode()).hexdigest()
