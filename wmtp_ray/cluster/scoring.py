"""The pool of frozen models: owned by the driver, called ahead of training by every worker's loader.

    worker's stream  ─ micro-batch ─►  least busy critic actor  ─►  cache? else forward  ─►  scores
                     ◄─ awaited in plan order, one step ahead at least ─┘

The pool lives as long as the driver: a restarted worker finds the same actors by name, and a critic that dies is
restarted by Ray, which repeats its unfinished calls. With cross-fitted critics there is one group of actors per fold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import ray

from actors.board import PoolBoard
from actors.cache import CacheCounts, ScoreCache
from actors.critic import CriticActor
from wmtp_ray.cluster.pool_size import ActorGroup, PoolSizer
from wmtp_ray.cluster.resources import times
from wmtp_ray.config.weighting import CriticPoolConfig, ReferencePoolConfig
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError, ModelError
from wmtp_ray.models.fingerprint import model_fingerprint
from wmtp_ray.models.score_engine import EngineSettings
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.models.value_model import KIND
from wmtp_ray.storage import read_manifest
from wmtp_ray.storage.runs import RunDirectory

NAMESPACE = "wmtp"
RESTARTS_WITHOUT_LIMIT = -1


@dataclass(frozen=True)
class ScorerUse:
    """The frozen model of a run, or one for each fold: where it lies, and how its actors are built. Nothing is read
    before `fingerprint` or `engines`, so that a run can be described before its critic exists."""

    section: Literal["critic", "reference"]
    """Of the configuration that names it."""
    directories: tuple[Path, ...]
    models: Path
    """Where converted models are kept."""
    cache_file: Path
    pool: CriticPoolConfig | ReferencePoolConfig

    def fingerprint(self, policy_tokenizer: str) -> str:
        """Of all models together, which must read the same token ids as the policy; `ModelError` otherwise."""
        for directory in self.directories:
            if not directory.is_dir():
                job = "critic" if self.section == "critic" else "ref_tuning"
                raise ModelError(
                    f"no {self.section} at {directory}; train one with jobs/{job}.py, or set {self.section}.run or "
                    f"{self.section}.path"
                )
            if self._tokenizer_of(directory) != policy_tokenizer:
                raise ModelError(
                    f"the {self.section} {directory} and the policy have different tokenizers, so its scores would "
                    "belong to other tokens; train one on a backbone with the policy's tokenizer"
                )
        return "+".join(engine.fingerprint for engine in self.engines())

    def require_same_folds(self, store: SolutionStore) -> None:
        """With a critic for each fold, which problems each has not seen is known from the store that they were trained
        on; `ConfigError` for another one."""
        if len(self.directories) == 1:
            return
        for directory in self.directories:
            run = RunDirectory(directory.parent)
            trained_on = (run.result or {}).get("fingerprints", {}).get("store")
            if trained_on != store.fingerprint:
                raise ConfigError(
                    f"the critics of the folds were trained on another store than {store.path} ({run.path}), so that a "
                    "program could be scored by the one that has seen it; train them on this store, or set "
                    "critic.folds=null"
                )

    def engines(self) -> tuple[EngineSettings, ...]:
        """What the actors of each fold run."""
        if isinstance(self.pool, ReferencePoolConfig):
            [directory] = self.directories
            fingerprint = _model_fingerprint(directory)
            return (
                EngineSettings(
                    "reference_losses", directory, fingerprint, self.models, dtype=self.pool.dtype
                ),
            )
        return tuple(
            EngineSettings(
                scored="values",
                directory=directory,
                fingerprint=read_manifest(directory, KIND).fingerprint,
                models=self.models,
                backend=self.pool.backend,
                url=self.pool.url,
                gpu_share=self.pool.gpus_per_actor,
            )
            for directory in self.directories
        )

    @property
    def actor_resources(self) -> dict[str, float]:
        """What one actor occupies."""
        pool = self.pool
        return {"CPU": pool.cpus_per_actor, "GPU": pool.gpus_per_actor, **pool.resources_per_actor}

    @property
    def resources(self) -> dict[str, float]:
        """What the actors occupy at least."""
        return times(len(self.directories) * self.pool.actor_range[0], self.actor_resources)

    def _tokenizer_of(self, directory: Path) -> str:
        if self.section == "critic":
            return read_manifest(directory, KIND).facts["tokenizer_fingerprint"]
        return tokenizer_fingerprint(load_tokenizer(directory))


@dataclass(frozen=True)
class ScoreAccess:
    """What a worker needs in order to ask the pool; picklable."""

    scored: str
    """What of a micro-batch is scored: `values` or `reference_losses`."""
    groups: tuple[tuple[str, ...], ...]
    """Names of the actors at the start, by fold."""
    boards: tuple[str, ...]
    """Where later names are posted, by fold."""
    window: int


class ScorePool:
    """The actors of one attempt of a run. `access` is what workers need to find them."""

    def __init__(self, run: str, use: ScorerUse, directory: Path | None = None) -> None:
        """`run` is in the actors' names, so that no other pool may have it. `directory` of the run is where actors
        leave word of their deaths."""
        self._run, self._use, self._directory = run, use, directory
        self._cache = self._start(ScoreCache, f"scores-{run}", {"num_cpus": 0}).remote(
            str(use.cache_file), use.pool.cache_bytes
        )
        engines = use.engines()
        self._groups = [self._group(fold, engine) for fold, engine in enumerate(engines)]
        self._sizers = [PoolSizer(group, use.pool.actor_range) for group in self._groups]
        for sizer in self._sizers:
            sizer.start()
        self.access = ScoreAccess(
            scored=engines[0].scored,
            groups=tuple(group.names for group in self._groups),
            boards=tuple(group.board_name for group in self._groups),
            window=use.pool.window,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the actors that there are now."""
        return tuple(name for group in self._groups for name in group.names)

    def counts(self) -> CacheCounts:
        """What was asked of the cache so far; the actors that asked may be gone by now."""
        return ray.get(self._cache.counts.remote())

    def close(self) -> None:
        """End the actors."""
        for sizer in self._sizers:
            sizer.stop()
        for group in self._groups:
            group.close()
        ray.kill(self._cache)

    def _group(self, fold: int, engine: EngineSettings) -> ActorGroup:
        pool, cache = self._use.pool, f"scores-{self._run}"
        prefix = f"{self._use.section}-{self._run}-{fold}"
        resources = {
            "num_cpus": pool.cpus_per_actor,
            "num_gpus": pool.gpus_per_actor,
            "resources": dict(pool.resources_per_actor),
        }

        def start(number: int) -> tuple[str, Any]:
            name = f"{prefix}-{number}"
            return name, self._start(CriticActor, name, resources).remote(
                engine, cache, pool.threads_per_actor, self._directory
            )

        board_name = f"board-{prefix}"
        board = self._start(PoolBoard, board_name, {"num_cpus": 0}).remote()
        return ActorGroup(start, pool.actor_range[0], board, board_name, self._use.actor_resources)

    def _start(self, kind: type, name: str, resources: dict[str, Any]) -> Any:
        return ray.remote(kind).options(
            name=name,
            namespace=NAMESPACE,
            max_restarts=RESTARTS_WITHOUT_LIMIT,
            max_task_retries=self._use.pool.max_task_retries,
            **resources,
        )


@lru_cache(maxsize=8)
def _model_fingerprint(directory: Path) -> str:
    """Reads every weight: once per process."""
    return model_fingerprint(directory)
