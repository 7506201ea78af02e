"""The critic that a replica serves: loaded once, tried out, then never changed."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml

from serve.pieces import backend_of
from wmtp_ray.client.wire import CriticIdentity
from wmtp_ray.config import PolicyJobConfig
from wmtp_ray.config.load import validate
from wmtp_ray.config.serve import ServedCriticConfig
from wmtp_ray.config.weighting import CriticWeighting
from wmtp_ray.data.batch import pack
from wmtp_ray.data.prompt import TokenizedSample, pad_token_id, tokenize_sample
from wmtp_ray.errors import ConfigError, StorageError
from wmtp_ray.models.scorer import score
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.models.value_model import KIND, ValueModel, read_card
from wmtp_ray.storage import read_manifest
from wmtp_ray.storage.runs import RunDirectory, run_path
from wmtp_ray.training.metrics_file import read_metrics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = ("Return the sum of two numbers.", "def add(a, b):\n    return a + b\n")

PROBE_TOKENS = 1024


@dataclass(frozen=True)
class EMAStatistics:
    """Whitening statistics of a weighted policy's last step, and how its advantages were made."""

    mean: float
    std: float
    run: str
    weighting: CriticWeighting


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
    probe: list[list[TokenizedSample]]
    """Rows of about 1,024 tokens together, of which the speed is measured."""
    tokens_per_second: float
    """Of the probe, when the critic was loaded: a first estimate."""

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
        probe = [[sample]] * max(1, PROBE_TOKENS // len(sample.token_ids))
        started = time.perf_counter()
        score(model, pack(probe, pad), device)
        rate = len(probe) * len(sample.token_ids) / (time.perf_counter() - started)
        return cls(
            model=model,
            tokenizer=tokenizer,
            identity=identity,
            device=device,
            max_tokens=max_tokens,
            vocabulary=int(model.backbone.config.vocab_size),
            ranks=card.training_config.get("objective", {}).get("method", "ranking") == "ranking",
            probe=probe,
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


def read_ema(config: ServedCriticConfig, storage: Path) -> EMAStatistics | None:
    """The whitening statistics with which the weighted policy `statistics_run` ended; None where none is named.

    Errors: `StorageError` where that run is not there or has none, `ConfigError` where they are of other advantages
    than this service can give.
    """
    if config.statistics_run is None:
        return None
    place = f"critic.statistics_run = {config.statistics_run!r}"
    run = RunDirectory(run_path(storage, "verifiable", config.statistics_run))
    if (result := run.result) is None:
        raise StorageError(f"{place}: {run.path} is no finished run; name a weighted policy's run, or null")
    last = next((record for record in reversed(read_metrics(run.metrics)) if "ema_mean" in record), None)
    if last is None:
        raise StorageError(f"{place}: {run.metrics} has no ema_mean; name a weighted run, or null")
    path = run.path / "config.yaml"
    weighting = validate(PolicyJobConfig, yaml.safe_load(path.read_text()), str(path)).weighting
    if not isinstance(weighting, CriticWeighting) or weighting.method != "critic" or weighting.rewards:
        raise ConfigError(
            f"{place}: its advantages are not those of a critic alone (weighting.method = {weighting.method}); name "
            "another run, or null"
        )
    served = read_manifest(critic_directory(config, storage), KIND).fingerprint
    if result.get("fingerprints", {}).get("critic") != served:
        raise ConfigError(
            f"{place}: that policy was weighted by another critic than the one to serve; name another run, or null"
        )
    return EMAStatistics(float(last["ema_mean"]), float(last["ema_std"]), config.statistics_run, weighting)


def _fingerprint(exported: str, trained: str, served: str) -> str:
    """That of the export, which training jobs compare; in another dtype it is another critic."""
    return exported if served == trained else hashlib.sha256(f"{exported}/{served}".encode()).hexdigest()
