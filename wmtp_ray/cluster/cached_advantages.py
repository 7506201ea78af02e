"""A critic's advantages from the score cache, without a cluster: for an audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from actors.cache import ScoreCache
from wmtp_ray.cluster.policy import cache_file, critic_directories, critic_objective, refuse_unsuited
from wmtp_ray.cluster.scoring import ScorerUse
from wmtp_ray.config.audit import AuditJobConfig
from wmtp_ray.config.weighting import CriticPoolConfig, CriticWeighting
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.segments import segments_of
from wmtp_ray.errors import ConfigError
from wmtp_ray.models.score_engine import load_engine
from wmtp_ray.models.scorer import join_values, score_keys
from wmtp_ray.value_weighting.methods.critic import CriticAdvantage

CPU = torch.device("cpu")


@dataclass(frozen=True)
class AuditedCritic:
    """A critic that is there and allows the weighting."""

    use: ScorerUse
    fingerprint: str


def find_critics(config: AuditJobConfig, tokenizer: str) -> tuple[AuditedCritic, AuditedCritic | None]:
    """The critic of `config`, and the second one, if it names one; they must have the fingerprint `tokenizer`.

    `ModelError` where one is not there or reads other tokens. `ConfigError` for a weighting that it does not allow, for
    the critics of several folds, and where both have the same weights: that they agree would say nothing.
    """
    critic = _find(config, config.critic, tokenizer)
    second = config.second_critic and _find(config, config.second_critic, tokenizer)
    if second and second.fingerprint == critic.fingerprint:
        raise ConfigError(
            f"second_critic {second.use.directories[0]} has the same weights as critic, so that their agreement says "
            "nothing; train one with another seed"
        )
    return critic, second


def _find(config: AuditJobConfig, critic: CriticPoolConfig, tokenizer: str) -> AuditedCritic:
    root = config.storage.root
    directories = critic_directories(critic, root)
    if len(directories) > 1:
        raise ConfigError("critic.folds: audit the critic of one fold, by critic.path")
    refuse_unsuited(config.weighting, directories)
    use = ScorerUse("critic", directories, root / "models", cache_file(root, critic), critic)
    return AuditedCritic(use, use.fingerprint(tokenizer))


def cached_advantages(
    config: AuditJobConfig, critic: AuditedCritic, batches: list[MicroBatch]
) -> Callable[[float], np.ndarray]:
    """A critic's advantages [N] as a function of λ; its values are looked up once. `ConfigError` where the cache lacks
    some and `score_missing` is not set."""
    scored = _with_values(critic.use, batches, config.score_missing)
    objective = critic_objective(critic.use.directories[0])

    def of(lam: float) -> np.ndarray:
        weighting: CriticWeighting = config.weighting.model_copy(update={"lam": lam})
        method = CriticAdvantage(weighting, objective)
        parts = []
        for m in scored:
            signal_RT = method.signal(m)
            parts += [signal_RT[s.row, s.response].numpy() for s in segments_of(m.batch)]
        return np.concatenate(parts).astype(np.float64)

    return of


def _with_values(use: ScorerUse, batches: list[MicroBatch], score_missing: bool) -> list[MicroBatch]:
    """The micro-batches with the critic's values from the cache, or computed here as the pool would."""
    [settings] = use.engines()
    identity, cache = settings.identity("cpu"), ScoreCache(str(use.cache_file), use.pool.cache_bytes)
    stored = [cache.get(score_keys(m.batch, settings.identity("cuda"))) for m in batches]
    if any(None in scores for scores in stored):  # GPUs have not scored all of it
        stored = [cache.get(score_keys(m.batch, identity)) for m in batches]
    missing = sum(None in scores for scores in stored)
    if missing and not score_missing:
        raise ConfigError(
            f"the score cache {use.cache_file} lacks values of {missing} of {len(batches)} micro-batches; train with "
            "this critic and data first, or set score_missing=true"
        )
    if missing:
        torch.set_num_threads(use.pool.threads_per_actor)
        engine = load_engine(settings, CPU, use.pool.threads_per_actor)
        for i, m in enumerate(batches):
            if None in stored[i]:
                fresh = [scores.tobytes() for scores in engine.score(m.batch)]
                stored[i] = list(cache.put(score_keys(m.batch, identity), fresh))
    return [
        replace(
            m,
            values_RT=join_values(
                [np.frombuffer(s, dtype=np.float32) for s in scores if s is not None], m.batch
            ),
        )
        for m, scores in zip(batches, stored, strict=True)
    ]
