"""Configuration of token weights, of the loss they enter, and of the critic that supplies the values."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from wmtp_ray.config.base import Name, Section
from wmtp_ray.config.model import DTypeName
from wmtp_ray.config.run import Fraction

CriticObjectiveKind = Literal["ranking", "lambda_return"]
"""What a critic was trained for; see `wmtp_ray.config.critic`."""


class WeightingBase(Section):
    """What every weighting method shares."""

    alignment: Literal["target", "state"] = "target"
    """Whether head k at t takes the weight of the predicted token t+k, or of its own next token t+1."""
    normalize: Literal["none", "mean_one"] = "none"
    """`mean_one` divides each head's weights by their mean over the whole step."""
    eos_weight: Literal["method", "one"] = "method"
    """`one` gives the end-of-sequence token weight 1, lest a comparison measure stopping."""
    scorer: ClassVar[Literal["critic", "reference"] | None] = None
    """The section of the frozen model whose scores it reads."""


class UniformWeighting(WeightingBase):
    """Every token weighs 1: the baseline."""

    method: Literal["uniform"] = "uniform"


class CriticWeighting(WeightingBase):
    """exp(whitened advantage / beta), clipped, from a frozen critic's values. `lam` 0 is TD(0), 1 Monte-Carlo."""

    method: Literal["critic"] = "critic"
    scorer = "critic"
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Other than 1 only with a λ-return critic."""
    lam: Fraction = 0.95
    credit: Literal["change", "level"] = "change"
    """What a token is credited with: by how much V changed at it, or, with ranking critics only, how far V stands above
    its mean over the response (`wmtp_ray.value_weighting.advantage`)."""
    rewards: bool = False
    """Whether the label of a program ends its advantages (the last token's is label - V). Only for λ-return critics."""
    first_token: Literal["prompt_value", "initial_value", "zero"] | None = None
    """null = `zero` for a ranking critic, which never trains values of prompts, `prompt_value` for a λ-return one. Not
    with `credit: level`, where no token is compared with the one before it."""
    initial_value: float = 0.5
    """What V was before the first token of a program, where `first_token` asks for it or no prompt precedes."""
    beta: PositiveFloat = 1.0
    min_weight: NonNegativeFloat = 0.1
    max_weight: PositiveFloat = 3.0
    ema_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    ema_warmup_steps: PositiveInt = 10

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_weight > self.max_weight:
            raise ValueError(
                f"min_weight = {self.min_weight} is more than max_weight = {self.max_weight}; lower it"
            )
        if self.credit == "level" and self.rewards:
            raise ValueError(
                "credit = level and rewards = true: a level has no end to reward; set one of them back"
            )
        if self.credit == "level" and self.first_token is not None:
            raise ValueError(
                f"credit = level and first_token = {self.first_token}: a level is not counted from the token before; "
                "set first_token = null"
            )
        return self


class ControlWeighting(CriticWeighting):
    """The critic's weights without the insight; see `wmtp_ray.value_weighting.methods`."""

    method: Literal[  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
        "circular_shift",
        "class_position_matched",
        "shuffled",
        "random_matched",
        "sequence_mean",
        "sign_flipped",
    ]
    seed: NonNegativeInt = 0
    """Of what is random in it, together with each sample's number."""


class Rho1Weighting(WeightingBase):
    """1 on the targets whose loss exceeds a reference model's the most, 0 elsewhere."""

    method: Literal["rho1"] = "rho1"
    scorer = "reference"
    k_percent: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of each head's targets that is kept, rounded up to whole targets. With `eos_weight: one` the
    end-of-sequence tokens are always kept, and the share is of the others."""
    mode: Literal["signed", "absolute", "difficult"] = "signed"
    """Rank by policy loss - reference loss, by its absolute value, or by the reference loss alone."""
    selection: Literal["micro_batch", "step"] = "micro_batch"
    """What the share is of: each planned micro-batch, or the whole step, which costs a forward without gradient."""


WeightingConfig = Annotated[
    UniformWeighting | CriticWeighting | ControlWeighting | Rho1Weighting, Field(discriminator="method")
]

RECIPES: dict[str, tuple[str, ...]] = {
    "uniform": ("weighting.method=uniform",),
    "critic": ("weighting.method=critic",),
    "td0": ("weighting.method=critic", "weighting.lam=0"),
    "level": ("weighting.method=critic", "weighting.credit=level", "weighting.lam=0"),
    "monte_carlo": ("weighting.method=critic", "weighting.lam=1"),
    "circular_shift": ("weighting.method=circular_shift",),
    "class_position_matched": ("weighting.method=class_position_matched",),
    "shuffled": ("weighting.method=shuffled",),
    "random_matched": ("weighting.method=random_matched",),
    "sequence_mean": ("weighting.method=sequence_mean",),
    "sign_flipped": ("weighting.method=sign_flipped",),
    "rho1": ("weighting.method=rho1",),
    "uniform_k1": ("weighting.method=uniform", "model.num_heads=1"),
    "critic_k1": ("weighting.method=critic", "model.num_heads=1"),
    "uniform_all": ("weighting.method=uniform", "data.sampling.solutions=all"),
    "critic_all": ("weighting.method=critic", "data.sampling.solutions=all"),
}
"""Arms of a comparison by name: what each changes in a policy's configuration, as on the command line."""


class LossConfig(Section):
    """The MTP loss."""

    normalization: Literal["step", "microbatch"] = "step"
    head_coefficients: tuple[NonNegativeFloat, ...] | None = None
    """c_k of each head; null = all 1."""
    chunk_size: PositiveInt = 256
    """Targets whose logits are alive at a time."""


class ScorePoolConfig(Section):
    """A frozen model, and the actors that score with it ahead of training."""

    run: str | None = None
    """Name of a finished run under the storage root that trained it; or give `path`."""
    path: str | None = None
    """Absolute directory of what such a run exports."""
    actors: PositiveInt | tuple[PositiveInt, PositiveInt] = 1
    """How many; or the least and the most: one is added while workers wait for scores and the cluster has room for it,
    and taken away when none has waited for a while."""
    cpus_per_actor: NonNegativeFloat = 1.0
    gpus_per_actor: NonNegativeFloat = 0.0
    resources_per_actor: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Custom resources of the cluster."""
    threads_per_actor: PositiveInt = 1
    window: PositiveInt = 4
    """A worker asks for the scores of the next step ahead of training, and for further steps' while fewer than so many
    micro-batches are in scoring."""
    max_task_retries: PositiveInt = 5
    """How often a call is repeated after its actor died."""
    cache: Name = "scores"
    """Name of the score cache under the storage root; runs that name the same one share their scores."""
    cache_bytes: PositiveInt = 10_000_000_000
    """Bound on the file of the score cache, shared by all runs (a score takes four bytes per response token)."""

    @property
    def actor_range(self) -> tuple[int, int]:
        """The least and the most actors."""
        return (self.actors, self.actors) if isinstance(self.actors, int) else self.actors

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        least, most = self.actor_range
        if least > most:
            raise ValueError(f"actors = [{least}, {most}]: the first is the least number; swap them")
        return self


class CriticPoolConfig(ScorePoolConfig):
    """The frozen critic of a policy job."""

    backend: Literal["pool", "vllm", "serve"] = "pool"
    """`pool`: transformers inside the actors. `vllm`: vLLM's pooling inside them, for a critic with a linear head.
    `serve`: actors pass on to a running critic service, which other jobs may share. Scores are cached by backend."""
    url: str | None = None
    """Address of the service, for `serve`."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """As in the critic's run: each problem is scored by the critic that did not train on it."""


class ReferencePoolConfig(ScorePoolConfig):
    """The frozen reference model of Rho-1; `run` is one of `jobs/ref_tuning.py`."""

    dtype: DTypeName = "float32"
    """As `model.dtype`."""
