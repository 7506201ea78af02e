"""Configuration of `jobs/collect.py`: which problems, sampled by which models, and what becomes of the samples."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveInt, model_validator

from wmtp_ray.config.base import Section
from wmtp_ray.config.evaluate import VerifiedSamplesConfig
from wmtp_ray.config.prepare import KeptConfig, SampledRowsConfig, SourceConfig, Splits


class ProblemsConfig(Section):
    """Problems with tests: exactly one of `store` and `source`."""

    store: str | None = None
    """Name of a prepared store below the storage root; its rows go to the new store, too."""
    source: SourceConfig | None = None
    """As in a configuration of `jobs/prepare.py`."""
    splits: Splits = ("train", "valid")
    """Problems that are sampled. Those of other splits go to the new store as they are."""
    limit: PositiveInt | None = None
    """Sample only n of these problems, evenly spread."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.store is None) == (self.source is None):
            source = self.source and self.source.kind
            raise ValueError(
                f"problems.store = {self.store!r} and problems.source = {source!r}; set exactly one"
            )
        return self


class CollectedStoreConfig(KeptConfig, SampledRowsConfig):
    """The store that is made, as a configuration of `jobs/prepare.py` describes one."""


class CollectJobConfig(VerifiedSamplesConfig):
    """`jobs/collect.py`. `name` is the run's and that of the store it makes."""

    problems: ProblemsConfig
    store: CollectedStoreConfig
    resume_allow: tuple[str, ...] = ("engine.actors_per_model", "judge.actors", "store.cluster")

    @model_validator(mode="after")
    def _another_store(self) -> Self:
        if self.problems.store == self.name:
            raise ValueError(
                f"name = {self.name!r} is also problems.store, and a store is never changed; name the new one "
                "differently"
            )
        return self
