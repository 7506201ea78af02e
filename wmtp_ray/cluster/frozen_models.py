"""The critics and reference models that arms of a comparison read: where they are, and what they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from wmtp_ray.cluster.job import plan_job
from wmtp_ray.config import CriticJobConfig, PolicyJobConfig
from wmtp_ray.config.compare import FrozenModelConfig
from wmtp_ray.config.critic import fold_runs
from wmtp_ray.config.load import load_config, validate
from wmtp_ray.data.plan import Plan
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError, DataError, StorageError
from wmtp_ray.storage.runs import RunDirectory, run_path

Kind = Literal["critic", "ref_tuning"]
"""The job that trains it."""


@dataclass(frozen=True)
class FrozenModel:
    """One critic (or the critic of each fold), or one reference model."""

    kind: Kind
    run: str
    folds: int | None
    parts: tuple[CriticJobConfig | PolicyJobConfig, ...]
    """The configuration of each of its runs."""
    own: CriticJobConfig | PolicyJobConfig | None
    """What the comparison trains it with; None for a run that was there before."""

    def directory(self, part: CriticJobConfig | PolicyJobConfig) -> RunDirectory:
        """Of one of its runs."""
        return RunDirectory(run_path(part.storage.root, self.kind, part.name))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return all(self.directory(part).result is not None for part in self.parts)

    def check_stores(self) -> None:
        """`DataError` where one of its runs was trained on other contents than its store has now: problems that are
        held out today may be among them."""
        for part in self.parts:
            _unchanged_store(self.directory(part), part, self.plan(part))

    def known_problems(self, part: CriticJobConfig | PolicyJobConfig) -> set[str]:
        """Ids of the problems that one of its runs was, or will be, trained on or chosen by. Errors of
        `check_stores`."""
        run = self.directory(part)
        if run.result is None:
            planned = plan_job(part)
            store, plans = planned.store, [planned.training, planned.validation]
        else:
            plans = [Plan.load(run.plan), Plan.load(run.validation_plan)]
            store = _unchanged_store(run, part, plans[0])
        if part.checkpoint.export == "last":
            del plans[1]
        return {name for plan in plans for name in store.index.ids_of(plan.columns["row"])}

    def plan(self, part: CriticJobConfig | PolicyJobConfig) -> Plan:
        """What one of its runs was, or will be, trained on."""
        run = self.directory(part)
        return Plan.load(run.plan) if run.result is not None else plan_job(part).training


def _unchanged_store(run: RunDirectory, part: CriticJobConfig | PolicyJobConfig, plan: Plan) -> SolutionStore:
    store = SolutionStore.named(part.storage.root, part.data.store)
    try:
        plan.check_store(store)
    except DataError as error:
        raise DataError(
            f"{run.path} was trained before its store was prepared anew ({error}); train it again with --fresh"
        ) from None
    return store


def find_frozen(kind: Kind, named: Mapping[str, FrozenModelConfig], root: Path) -> dict[str, FrozenModel]:
    """The models that a comparison names. `StorageError` for a run that is not there, `ConfigError` for two that are
    one."""
    section = "critics" if kind == "critic" else "references"
    found = {name: _find(kind, f"{section}.{name}", config, root) for name, config in named.items()}
    for name, model in found.items():
        for other in found:
            if other < name and found[other].run == model.run and model.own != found[other].own:
                raise ConfigError(
                    f"{section}.{other} and {section}.{name} are both the run {kind}-{model.run}; give one of them "
                    f"a name of its own, overrides: [name={model.run}-{name}]"
                )
    return found


def _find(kind: Kind, place: str, config: FrozenModelConfig, root: Path) -> FrozenModel:
    if config.config is not None:
        changes = [f"storage.root={root}", *config.overrides]
        if kind == "critic":
            critic = load_config(CriticJobConfig, config.config, changes)
            return FrozenModel(kind, critic.name, critic.folds, tuple(critic.by_fold()), critic)
        policy = load_config(PolicyJobConfig, config.config, changes)
        return FrozenModel(kind, policy.name, None, (policy,), policy)
    run = str(config.run)
    names = fold_runs(run, config.folds) if config.folds else [run]
    parts = tuple(_config_of(kind, place, name, root) for name in names)
    return FrozenModel(kind, run, config.folds, parts, None)


def _config_of(kind: Kind, place: str, name: str, root: Path) -> CriticJobConfig | PolicyJobConfig:
    run = RunDirectory(run_path(root, kind, name))
    if run.result is None:
        raise StorageError(
            f"{place} names the run {run.path}, which is not finished; train it with jobs/{kind}.py, or give "
            f"{place}.config"
        )
    path = run.path / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | {"storage": {"root": str(root)}}
    return validate(CriticJobConfig if kind == "critic" else PolicyJobConfig, content, str(path))
