"""Configuration of what a critic is trained for, and of cross-fitting."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from wmtp_ray.config.base import Section
from wmtp_ray.config.run import Fraction


class CriticObjectiveBase(Section):
    """What both objectives share."""

    shuffle_labels: bool = False
    """Train on random labels: which program of a pair counts as the correct one is a function of `seed` and the pair.
    A control. Validation keeps the true labels."""


class RankingConfig(CriticObjectiveBase):
    """Rank the correct above the incorrect program of a pair, by their mean values."""

    method: Literal["ranking"] = "ranking"
    pairs: Literal["planned", "step"] = "planned"
    """What a step compares: the planned pairs, or every correct with every incorrect program of the same problem among
    them. The latter pays where a step has several pairs of one problem; the programs pass through the model twice,
    unless `data.plan.micro_batches_per_step` leaves a worker a single micro-batch."""


class LambdaReturnConfig(CriticObjectiveBase):
    """Regress every value on the λ-return of the label (1 correct, 0 incorrect)."""

    method: Literal["lambda_return"] = "lambda_return"
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    lam: Fraction = 0.95
    """At the start."""
    lam_end: Fraction | None = None
    """At the last step; null = as at the start."""
    lam_schedule: Literal["constant", "linear", "cosine"] = "constant"
    lam_warmup_share: Fraction = 0.0
    """Share of all steps before λ begins to move."""
    loss: Literal["huber", "mse"] = "huber"
    huber_delta: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _lam_moves(self) -> Self:
        if self.lam_schedule == "constant" and (self.lam_end is not None or self.lam_warmup_share):
            raise ValueError(
                f"lam_end = {self.lam_end} and lam_warmup_share = {self.lam_warmup_share} with a constant lam; set "
                "lam_schedule to linear or cosine, or remove them"
            )
        return self


CriticObjectiveConfig = Annotated[RankingConfig | LambdaReturnConfig, Field(discriminator="method")]


def fold_runs(name: str, folds: int) -> list[str]:
    """Names of the critic runs of a cross-fitted critic, by the fold that each leaves out."""
    return [f"{name}-without-{fold}-of-{folds}" for fold in range(folds)]
