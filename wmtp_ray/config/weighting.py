"""Configuration of token weights, of the loss they enter, and of the critic that supplies the values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from wmtp_ray.config.base import Section
from wmtp_ray.config.run import Fraction


class WeightingBase(Section):
    """What every weighting method shares."""

    alignment: Literal["target", "state"] = "target"
    """Whether head k at t takes the weight of the predicted token t+k, or of its own next token t+1."""
    normalize: Literal["none", "mean_one"] = "none"
    """`mean_one` divides each head's weights by their mean over the whole step."""
    eos_weight: Literal["method", "one"] = "method"
    """`one` gives the end-of-sequence token weight 1, lest a comparison measure stopping."""


class UniformWeighting(WeightingBase):
    """Every token weighs 1: the baseline."""

    method: Literal["uniform"] = "uniform"


class CriticWeighting(WeightingBase):
    """exp(whitened advantage / beta), clipped, from a frozen critic's values."""

    method: Literal["critic"] = "critic"
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    lam: Fraction = 0.95
    first_token: Literal["prompt_value", "initial_value", "zero"] = "zero"
    initial_value: float = 0.5
    beta: PositiveFloat = 1.0
    min_weight: NonNegativeFloat = 0.1
    max_weight: PositiveFloat = 3.0
    ema_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    ema_warmup_steps: PositiveInt = 10


WeightingConfig = Annotated[UniformWeighting | CriticWeighting, Field(discriminator="method")]


class LossConfig(Section):
    """The MTP loss."""

    normalization: Literal["step", "microbatch"] = "step"
    head_coefficients: tuple[NonNegativeFloat, ...] | None = None
    """c_k of each head; null = all 1."""
    chunk_size: PositiveInt = 256
    """Targets whose logits are alive at a time."""


class CriticPoolConfig(Section):
    """The frozen critic and the actors that score with it."""

    run: str | None = None
    """Name of a finished critic run under the storage root; or give `path`."""
    path: str | None = None
    """Absolute directory of an exported critic."""
    actors: PositiveInt = 1
    cpus_per_actor: NonNegativeFloat = 1.0
    gpus_per_actor: NonNegativeFloat = 0.0
    threads_per_actor: PositiveInt = 1
    window: PositiveInt = 4
    """Micro-batches that one worker may have in scoring ahead of training."""
    max_task_retries: PositiveInt = 5
    """How often a call is repeated after its actor died."""
    cache: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "scores"
    """Name of the score cache under the storage root; runs that name the same one share their scores."""
    cache_bytes: PositiveInt = 10_000_000_000
    """Bound on the file of the score cache, shared by all runs (a value takes four bytes per response token)."""
