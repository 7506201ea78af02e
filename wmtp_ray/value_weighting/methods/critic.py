"""Weights from a frozen critic's advantages: clip(exp((A − μ) / (σ + ε) / β)).

One-step TD errors are λ = 0 of it, Monte-Carlo advantages λ = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wmtp_ray.config.weighting import CriticObjectiveKind, CriticWeighting
from wmtp_ray.data.micro_batch import MicroBatch, Need
from wmtp_ray.data.segments import per_sample
from wmtp_ray.value_weighting.advantage import FirstToken, compute_gae_advantage
from wmtp_ray.value_weighting.ema import AdvantageEMA, AdvantageSums
from wmtp_ray.value_weighting.methods.method import Total, WeightingMethod
from wmtp_ray.value_weighting.weights import build_weights


class CriticAdvantage(WeightingMethod):
    """A by generalised advantage estimation from the critic's values; μ and σ are moving averages over steps.

    With cross-fitted critics each has statistics of its own (their scales differ): a training sample is whitened by
    those of the critic that scored it, a held-out sample has the mean of the weights that all critics give it.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"values"})

    def __init__(
        self, config: CriticWeighting, critic: CriticObjectiveKind = "ranking", folds: int = 1
    ) -> None:
        self.config = config
        self.bounds = (config.min_weight, config.max_weight)
        self._first_token: FirstToken = config.first_token or (
            "zero" if critic == "ranking" else "prompt_value"
        )
        self.emas = [AdvantageEMA(config.ema_momentum, config.ema_warmup_steps) for _ in range(folds)]

    def step(self, mine: Sequence[MicroBatch], total: Total) -> list[Tensor]:
        """First the statistics take in the whole step, then they are used."""
        self.update(mine, total)
        return [self.weigh(micro_batch) for micro_batch in mine]

    def update(self, mine: Sequence[MicroBatch], total: Total) -> None:
        """Take in the advantages of one step."""
        sums_F3 = torch.zeros(len(self.emas), 3, dtype=torch.float64)
        for micro_batch in mine:
            signal_RT = self.signal(micro_batch)
            for fold, mask_RT in self._by_fold(micro_batch):
                sums_F3[fold] += AdvantageSums.of(signal_RT, mask_RT).as_tensor()
        for ema, sums_3 in zip(self.emas, total(sums_F3), strict=True):
            ema.update_from_sums(AdvantageSums.from_tensor(sums_3))

    def signal(self, micro_batch: MicroBatch) -> Tensor:
        assert micro_batch.values_RT is not None
        return self._advantages(micro_batch, micro_batch.values_RT)

    def weigh(self, micro_batch: MicroBatch) -> Tensor:
        """Before the first step there are no statistics, and every response token weighs 1."""
        if micro_batch.fold_values_FRT is not None:
            of_fold = [
                self._weights(ema, self._advantages(micro_batch, values_RT), micro_batch.batch.response_mask)
                for ema, values_RT in zip(self.emas, micro_batch.fold_values_FRT, strict=True)
            ]
            return torch.stack(of_fold).mean(dim=0)
        signal_RT = self.signal(micro_batch)
        parts = [
            self._weights(self.emas[fold], signal_RT, mask_RT) for fold, mask_RT in self._by_fold(micro_batch)
        ]
        return torch.stack(parts).sum(dim=0)

    def statistics(self) -> dict[str, float]:
        """EMA of mean and standard deviation; the mean of the folds' where there are several."""
        known = [ema for ema in self.emas if ema.updates]
        if not known:
            return {}
        return {
            "ema_mean": sum(ema.mean for ema in known) / len(known),
            "ema_std": sum(ema.std for ema in known) / len(known),
        }

    def state_dict(self) -> dict[str, Any]:
        weighting = self.config.model_dump(mode="json")
        return {"weighting": weighting, "emas": [ema.state_dict() for ema in self.emas]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for ema, saved in zip(self.emas, state["emas"], strict=True):
            ema.load_state_dict(saved)

    def _advantages(self, micro_batch: MicroBatch, values_RT: Tensor) -> Tensor:
        batch, rewards_RT = micro_batch.batch, None
        if self.config.rewards:
            rewards_RT = per_sample(micro_batch.planned.correct.astype("float32"), batch, 0.0)
        return compute_gae_advantage(
            values_RT,
            rewards_RT,
            batch.response_mask,
            gamma=self.config.gamma,
            lam=self.config.lam,
            initial_value=self.config.initial_value,
            first_token=self._first_token,
            segment_ids=batch.segment_ids,
            credit=self.config.credit,
        )

    def _weights(self, ema: AdvantageEMA, signal_RT: Tensor, mask_RT: Tensor) -> Tensor:
        if ema.updates == 0:
            return mask_RT.float()
        return build_weights(
            signal_RT,
            mask_RT,
            beta=self.config.beta,
            min_weight=self.config.min_weight,
            max_weight=self.config.max_weight,
            external_mean=ema.mean,
            external_std=ema.std,
        )

    def _by_fold(self, micro_batch: MicroBatch) -> list[tuple[int, Tensor]]:
        """The response tokens that each critic scored."""
        mask_RT = micro_batch.batch.response_mask
        if micro_batch.folds_S is None:
            return [(0, mask_RT)]
        fold_RT = per_sample(micro_batch.folds_S, micro_batch.batch, -1)
        return [(fold, mask_RT & (fold_RT == fold)) for fold in range(len(self.emas))]


class SignFlipped(CriticAdvantage):
    """The critic's insight turned round: −A in place of A, so that the worst tokens weigh most."""

    def _advantages(self, micro_batch: MicroBatch, values_RT: Tensor) -> Tensor:
        return -super()._advantages(micro_batch, values_RT)
