"""Ways to weight tokens. A method is one small class: it says what it needs per token, and turns that into weights.

The trainer fetches the needs, reduces the statistics over the whole step and knows no method by name. To add one, write
a class with these four members and give it a section in `wmtp_ray/config/weighting.py`.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from wmtp_ray.config.weighting import CriticWeighting, UniformWeighting, WeightingBase
from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.value_weighting.advantage import compute_gae_advantage
from wmtp_ray.value_weighting.ema import AdvantageEMA
from wmtp_ray.value_weighting.weights import build_weights


class WeightingMethod(Protocol):
    """From what is known about each token of a micro-batch to its weight."""

    @property
    def needs_values(self) -> bool:
        """Whether it reads the frozen critic's values."""
        ...

    @property
    def ema(self) -> AdvantageEMA | None:
        """Statistics of the signal over steps, updated by the trainer with the whole step's sums before `weights`;
        None = the method whitens nothing."""
        ...

    def signal(self, batch: PackedBatch, values_RT: Tensor | None) -> Tensor | None:
        """The per-token quantity [R, T] that `ema` follows, None where there is none."""
        ...

    def weights(self, batch: PackedBatch, signal_RT: Tensor | None) -> Tensor:
        """Weights by predicted token [R, T] (or by position and head [R, T, K]), float32, 0 off the response."""
        ...


class Uniform:
    """Every response token weighs 1: plain multi-token prediction."""

    needs_values = False
    ema = None

    def signal(self, batch: PackedBatch, values_RT: Tensor | None) -> None:
        return None

    def weights(self, batch: PackedBatch, signal_RT: Tensor | None) -> Tensor:
        return batch.response_mask.float()


class CriticAdvantage:
    """clip(exp((A - mean) / (std + eps) / beta)), A by generalised advantage estimation from the critic's values."""

    needs_values = True

    def __init__(self, config: CriticWeighting) -> None:
        self.ema = AdvantageEMA(momentum=config.ema_momentum, warmup_steps=config.ema_warmup_steps)
        self._config = config

    def signal(self, batch: PackedBatch, values_RT: Tensor | None) -> Tensor:
        assert values_RT is not None
        return compute_gae_advantage(
            values_RT,
            None,
            batch.response_mask,
            gamma=self._config.gamma,
            lam=self._config.lam,
            initial_value=self._config.initial_value,
            first_token=self._config.first_token,
            segment_ids=batch.segment_ids,
        )

    def weights(self, batch: PackedBatch, signal_RT: Tensor | None) -> Tensor:
        assert signal_RT is not None
        return build_weights(
            signal_RT,
            batch.response_mask,
            beta=self._config.beta,
            min_weight=self._config.min_weight,
            max_weight=self._config.max_weight,
            external_mean=self.ema.mean,
            external_std=self.ema.std,
        )


def build_method(config: WeightingBase) -> WeightingMethod:
    """The method that a configuration section describes."""
    match config:
        case UniformWeighting():
            return Uniform()
        case CriticWeighting():
            return CriticAdvantage(config)
        case _:
            raise AssertionError(f"no weighting method for {type(config).__name__}")
