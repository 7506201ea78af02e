"""From the configuration of `jobs/collect.py` to the problems it samples and the store it makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wmtp_ray.cluster.evaluation_plan import SamplePlan
from wmtp_ray.config.collect import CollectJobConfig
from wmtp_ray.config.prepare import KeptConfig, PrepareJobConfig, SamplesSourceConfig
from wmtp_ray.data.records import Problem
from wmtp_ray.data.sources import all_problems
from wmtp_ray.data.sources.samples import problems_identity, problems_source
from wmtp_ray.errors import ConfigError
from wmtp_ray.evaluation.benchmarks import from_problems
from wmtp_ray.storage.manifest import MANIFEST_NAME, read_manifest
from wmtp_ray.storage.runs import RunDirectory

SAMPLED = "problems"
"""The name of the problems in `samples.jsonl`, and in the seed of each sample."""


@dataclass(frozen=True)
class Collection(SamplePlan):
    """All that a collection will sample."""

    config: CollectJobConfig
    untested: int
    """Problems of the chosen splits that have no tests."""

    def summary(self) -> str:
        """One line."""
        untested = f"; {self.untested} others have no tests" if self.untested else ""
        return f"{super().summary()}{untested}"


def plan_collection(config: CollectJobConfig) -> Collection:
    """Find the problems that `config` names; nothing is started, and no model is looked for.

    `DataError` where two have the same id, or none has tests.
    """
    untested = 0

    def tested() -> Iterator[Problem]:
        nonlocal untested
        for item in all_problems(problems_source(config.problems, config.storage.root)):
            if not isinstance(item, Problem) or item.split not in (None, *config.problems.splits):
                continue
            if item.tests is None:
                untested += 1
                continue
            yield item

    sampled = from_problems(tested(), SAMPLED).limited(config.problems.limit)
    return Collection(config, (sampled,), untested)


def require_same_problems(run: RunDirectory, config: CollectJobConfig) -> None:
    """A resumed collection goes on with the problems it was begun with; `ConfigError` if they changed."""
    path, now = run.path / "problems.json", problems_identity(config.problems, config.storage.root)
    if path.exists() and json.loads(path.read_text()) != now:
        raise ConfigError(f"{run.path} was begun with other problems; use --fresh or another name")
    run.write(path.name, json.dumps(now, indent=1))


def require_own_store(path: Path, run: str) -> None:
    """There is no store at `path`, or it is of the run of that name; a `ConfigError` otherwise, before any sampling."""
    if (path / MANIFEST_NAME).exists():
        source = read_manifest(path, "store").facts.get("source")
        if not isinstance(source, dict) or source.get("run") != run:
            raise ConfigError(f"{path} is another store and is never changed; choose another name")


def preparation(config: CollectJobConfig, run: RunDirectory) -> PrepareJobConfig:
    """What `jobs/prepare.py` would be asked for, to make the store of the run's samples."""
    store = config.store
    source = SamplesSourceConfig(
        kind="samples", run=run.path, incorrect=store.incorrect, own_solutions=store.own_solutions
    )
    kept = {key: getattr(store, key) for key in KeptConfig.model_fields}
    return PrepareJobConfig(name=config.name, storage=config.storage, source=source, **kept)
