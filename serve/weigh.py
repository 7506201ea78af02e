"""From values to advantages and weights by the code of training, over all items of a request together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from serve.critic import EMAStatistics, ServedCritic
from serve.problems import unusable
from wmtp_ray.client.wire import Options, WhiteningStatistics
from wmtp_ray.config.weighting import CriticWeighting
from wmtp_ray.data.batch import PackedBatch, pack
from wmtp_ray.data.prompt import TokenizedSample, eos_id, pad_token_id
from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.models.scorer import join_values
from wmtp_ray.value_weighting import (
    build_weights,
    compute_gae_advantage,
    mean_one_scales,
    with_eos_weight_one,
)

_OF_ADVANTAGES = ("gamma", "lam", "credit", "first_token", "initial_value")
_FIELDS = (*_OF_ADVANTAGES, "beta", "min_weight", "max_weight", "normalize", "eos_weight")


@dataclass(frozen=True)
class Weighed:
    """Per item, over its response tokens: float32 values, advantages, weights."""

    values: list[np.ndarray]
    advantages: list[np.ndarray]
    weights: list[np.ndarray]
    statistics: WhiteningStatistics


def resolve(options: Options, defaults: CriticWeighting, critic: ServedCritic) -> CriticWeighting:
    """The weighting that a request asks for; 422 for what this critic or these numbers do not allow. Without a
    `first_token`, training's default: a ranking critic never trains its values of prompts."""
    given = {name: getattr(options, name) for name in _FIELDS if getattr(options, name) is not None}
    first_token = defaults.first_token or ("zero" if critic.ranks else "prompt_value")
    weighting = defaults.model_copy(update={"first_token": first_token} | given)
    if weighting.min_weight > weighting.max_weight:
        raise unusable(
            f"min_weight {weighting.min_weight} is more than max_weight {weighting.max_weight}; lower the "
            "first or raise the second",
            "/options/min_weight",
        )
    if critic.ranks and weighting.gamma != 1:
        raise unusable(
            f"gamma is {weighting.gamma}: the values of a ranking critic have neither scale nor offset and cannot be "
            "discounted; use 1",
            "/options/gamma",
        )
    if weighting.credit == "level" and not critic.ranks:
        raise unusable(
            "credit is level, which reads V as a share in the score that a ranking critic learns, and this critic is "
            "none; use change",
            "/options/credit",
        )
    if (options.statistics == "given") != (options.mean is not None and options.std is not None) or (
        options.statistics != "given" and (options.mean is not None or options.std is not None)
    ):
        raise unusable(
            "statistics: given needs mean and std, and nothing else takes them", "/options/statistics"
        )
    return weighting


def default_options(weighting: CriticWeighting) -> Options:
    """What a request that says nothing asks for; `weighting` is resolved. 422 for numbers that no request may have."""
    try:
        return Options.model_validate({name: getattr(weighting, name) for name in _FIELDS})
    except ValidationError as error:
        fault = error.errors()[0]
        name = fault["loc"][0]
        raise unusable(f"{name} is {fault['input']}: {fault['msg']}", f"/options/{name}") from None


def weigh(
    samples: list[TokenizedSample],
    scores: list[np.ndarray],
    weighting: CriticWeighting,
    options: Options,
    ema: EMAStatistics | None,
    critic: ServedCritic,
) -> Weighed:
    """Advantages and weights of a request's items from their scores (`models.scorer`'s vectors)."""
    assert weighting.first_token is not None, "resolved"
    batch = pack([[sample] for sample in samples], pad_token_id(critic.tokenizer))
    values_BT = join_values(scores, batch)
    mask_BT = batch.response_mask
    try:
        advantages_BT = compute_gae_advantage(
            values_BT,
            None,
            mask_BT,
            gamma=weighting.gamma,
            lam=weighting.lam,
            initial_value=weighting.initial_value,
            first_token=weighting.first_token or "zero",
            segment_ids=batch.segment_ids,
            credit=weighting.credit,
        )
        statistics = _statistics(options, weighting, ema, advantages_BT[mask_BT])
        weights_BT = _weights(advantages_BT, batch, weighting, statistics, eos_id(critic.tokenizer))
    except (ConfigError, DataError) as error:
        raise unusable(str(error), "/options") from None
    values, advantages, weights = (_split(t, samples) for t in (values_BT, advantages_BT, weights_BT))
    return Weighed(values, advantages, weights, statistics)


def _weights(
    advantages_BT: Tensor,
    batch: PackedBatch,
    weighting: CriticWeighting,
    statistics: WhiteningStatistics,
    eos: int,
) -> Tensor:
    own = statistics.source == "batch"
    weights_BT = build_weights(
        advantages_BT,
        batch.response_mask,
        beta=weighting.beta,
        min_weight=weighting.min_weight,
        max_weight=weighting.max_weight,
        external_mean=None if own else statistics.mean,
        external_std=None if own else statistics.std,
    )
    if weighting.eos_weight == "one":
        weights_BT = with_eos_weight_one(weights_BT, batch.labels, eos)
    if (
        weighting.normalize == "mean_one"
    ):  # as the trainer does for its first head, whose targets are these tokens
        sums_K, counts_K = weights_BT.double().sum().view(1), batch.response_mask.sum().view(1)
        weights_BT = weights_BT * mean_one_scales(sums_K, counts_K).float()
    return weights_BT


def _statistics(
    options: Options, weighting: CriticWeighting, ema: EMAStatistics | None, advantages_N: Tensor
) -> WhiteningStatistics:
    if options.statistics == "given":
        return WhiteningStatistics(source="given", mean=options.mean, std=options.std)
    if options.statistics == "ema":
        if ema is None:
            raise unusable(
                "this service knows no training run's statistics (critic.statistics_run); use batch or given",
                "/options/statistics",
            )
        trained = ema.weighting
        if others := [n for n in _OF_ADVANTAGES if getattr(weighting, n) != getattr(trained, n)]:
            wanted = ", ".join(f"{name} {getattr(trained, name)}" for name in others)
            raise unusable(
                f"the statistics of the run {ema.run} are of advantages with {wanted}; ask for these, or use batch or "
                "given",
                "/options/statistics",
            )
        return WhiteningStatistics(source="ema", mean=ema.mean, std=ema.std)
    std = advantages_N.double().std().item() if len(advantages_N) > 1 else None
    return WhiteningStatistics(source="batch", mean=advantages_N.double().mean().item(), std=std)


def _split(quantity_BT: Tensor, samples: list[TokenizedSample]) -> list[np.ndarray]:
    """The response tokens' part of each row: every item lies at the start of its own."""
    rows = quantity_BT.numpy()
    return [rows[r, s.response_start : len(s.token_ids)] for r, s in enumerate(samples)]
