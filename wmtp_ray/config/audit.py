"""Configuration of `jobs/audit.py`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from wmtp_ray.config import checks
from wmtp_ray.config.base import Section
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.config.jobs import JobConfig
from wmtp_ray.config.run import Fraction
from wmtp_ray.config.weighting import CriticPoolConfig, CriticWeighting


class AuditDataConfig(Section):
    """The programs that are looked at. With a training job's `plan`, missing scores are computed in its batches."""

    store: str
    sampling: SamplingConfig
    plan: PlanConfig


class AuditGridConfig(Section):
    """Every combination of these is audited."""

    lams: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.0, 0.5, 0.95, 1.0)
    betas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    clips: Annotated[tuple[tuple[NonNegativeFloat, PositiveFloat], ...], Field(min_length=1)] = (
        (0.1, 3.0),
        (0.5, 2.0),
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for least, most in self.clips:
            if least > most:
                raise ValueError(f"clips has [{least}, {most}]: the first is the least weight; swap them")
        return self


class AuditJobConfig(JobConfig):
    """`jobs/audit.py`: what a critic's weights would do, from its cached values."""

    tokenizer: str
    """The model whose tokenizer counts: as `model.name` of the critic's job."""
    data: AuditDataConfig
    critic: CriticPoolConfig
    second_critic: CriticPoolConfig | None = None
    """Another critic (another seed, say), for the stability of the weights."""
    weighting: CriticWeighting = CriticWeighting()
    """The setting that the verdict is about."""
    grid: AuditGridConfig = AuditGridConfig()
    score_missing: bool = False
    """Score what the cache does not have, in this process; otherwise it is an error that says how much is missing."""
    resume_allow: tuple[str, ...] = ("score_missing",)
    """Keys that may differ from the configuration that the audit was started with."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        checks.scorer_named("critic", self.critic)
        if self.second_critic is not None:
            checks.scorer_named("second_critic", self.second_critic)
        return self
