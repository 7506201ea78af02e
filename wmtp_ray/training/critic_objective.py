"""The critic's objectives over the pairs of a whole step.

Ranking: mean over pairs of -log sigmoid(mean V over the correct response - mean V over the incorrect one).
λ-return: mean error of V against the λ-return of the label, per program; (mean over correct + mean over incorrect) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmtp_ray.config.critic import LambdaReturnConfig
from wmtp_ray.data.keyed import keyed_bits
from wmtp_ray.data.micro_batch import MicroBatch, Need
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.data.segments import Segment, segments_of
from wmtp_ray.losses import (
    LambdaSchedule,
    RankingStatistics,
    lambda_return_losses,
    lambda_return_targets,
    ranking_loss_from_means,
    segment_means,
    spread_over_segments,
)
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.held_out import HeldOutPair
from wmtp_ray.training.objective import Metrics
from wmtp_ray.value_weighting import AdvantageSums


@dataclass(frozen=True)
class ScoredPairs:
    """A micro-batch with its values, and which of its samples form pairs."""

    micro_batch: MicroBatch
    values_RT: Tensor
    pairs_P2: Tensor
    """Samples that count as correct and incorrect."""
    means_S: Tensor
    statistics: RankingStatistics
    value_sums: Tensor
    """[3] float64, over response tokens: see `AdvantageSums`."""

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """Mean values of both sides, [P] each."""
        correct_P, incorrect_P = self.pairs_P2.unbind(dim=1)
        return self.means_S[correct_P], self.means_S[incorrect_P]


class RankingObjective:
    """Pairwise ranking over whole steps. Implements `Objective`.

    With `shuffle_seed`, training takes for the correct side of each pair a random one, a function of the seed and the
    pair; `evaluate` keeps the true labels.
    """

    needs: frozenset[Need] = frozenset()
    sees_offset = False
    """Whether the loss changes when one number is added to all values."""

    def __init__(self, model: ValueModel, device: torch.device, shuffle_seed: int | None = None) -> None:
        self.model = model
        self.held_out_pairs: Sequence[HeldOutPair] = ()
        self._device = device
        self._shuffle_seed = shuffle_seed
        if not self.sees_offset:
            model.fix_offset()
        self._begin(0)

    def prepare(self, step: PlannedStep, mine: Sequence[MicroBatch], collective: Collective) -> None:
        """The plan knows the step's pairs: nothing has to be reduced."""
        self._begin(sum(len(planned.pairs) for planned in step.micro_batches))

    def backward(self, micro_batch: MicroBatch) -> None:
        """Add the gradient of this micro-batch's share of the step's mean."""
        scored = self._score_training(micro_batch)
        loss = self._loss(scored)
        (loss / self._num_pairs).backward()
        self._loss_sum += loss.detach().double().cpu()
        self._statistics += scored.statistics
        self._value_sums += scored.value_sums

    def metrics(self, collective: Collective) -> Metrics:
        return _as_metrics(self._statistics, self._loss_sum, self._value_sums, collective)

    def evaluate(self, micro_batches: Iterable[MicroBatch], collective: Collective) -> Metrics:
        statistics, loss_sum, value_sums = _nothing_yet()
        pairs: list[HeldOutPair] = []
        for micro_batch in micro_batches:
            scored = self._score(micro_batch, micro_batch.planned.pairs)
            loss_sum += self._loss(scored).double().cpu()
            statistics += scored.statistics
            value_sums += scored.value_sums
            pairs += _held_out_pairs(scored)
        self.held_out_pairs = [pair for share in collective.gather(pairs) for pair in share]
        return _as_metrics(statistics, loss_sum, value_sums, collective)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def _begin(self, num_pairs: int) -> None:
        self._num_pairs = num_pairs
        self._statistics, self._loss_sum, self._value_sums = _nothing_yet()

    def _loss(self, scored: ScoredPairs) -> Tensor:
        """Sum of the pairs' losses."""
        return ranking_loss_from_means(*scored.means, normalizer=1.0)

    def _score_training(self, micro_batch: MicroBatch) -> ScoredPairs:
        return self._score(micro_batch, _shuffled(micro_batch, self._shuffle_seed))

    def _score(self, micro_batch: MicroBatch, pairs_P2: np.ndarray) -> ScoredPairs:
        batch = micro_batch.batch.to(self._device)
        values_RT = self.model(batch)
        means = segment_means(values_RT, batch.response_mask, batch.segment_ids, len(batch.sample_ids))
        pairs = torch.from_numpy(pairs_P2).to(self._device)
        statistics = RankingStatistics.of(
            *(means.mean_S[side] for side in pairs.unbind(dim=1)),
            *(means.count_S[side] for side in pairs.unbind(dim=1)),
        )
        value_sums = AdvantageSums.of(values_RT, batch.response_mask).as_tensor()
        return ScoredPairs(micro_batch, values_RT, pairs, means.mean_S, statistics, value_sums)


class LambdaReturnObjective(RankingObjective):
    """Regression of every value on the λ-return of its program's label. λ follows its schedule over the steps."""

    sees_offset = True

    def __init__(
        self,
        model: ValueModel,
        device: torch.device,
        config: LambdaReturnConfig,
        total_steps: int,
        shuffle_seed: int | None = None,
    ) -> None:
        super().__init__(model, device, shuffle_seed)
        self._config = config
        self._schedule = LambdaSchedule(
            kind=config.lam_schedule,
            start=config.lam,
            end=config.lam if config.lam_end is None else config.lam_end,
            warmup_steps=round(config.lam_warmup_share * total_steps),
            total_steps=total_steps,
        )
        self._lam = config.lam

    def prepare(self, step: PlannedStep, mine: Sequence[MicroBatch], collective: Collective) -> None:
        super().prepare(step, mine, collective)
        self._lam = self._schedule.at(step.number)

    def metrics(self, collective: Collective) -> Metrics:
        return super().metrics(collective) | {"lam": self._lam}

    def state_dict(self) -> dict[str, Any]:
        return {"lam": self._lam}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._lam = float(state["lam"])

    def _loss(self, scored: ScoredPairs) -> Tensor:
        """Sum over pairs of the mean of both sides' errors."""
        batch = scored.micro_batch.batch.to(self._device)
        rewards_S = torch.zeros(len(batch.sample_ids), device=self._device)
        rewards_S[scored.pairs_P2[:, 0]] = 1.0
        rewards_RT = spread_over_segments(rewards_S, batch.segment_ids)
        targets_RT = lambda_return_targets(
            scored.values_RT.detach(),
            rewards_RT,
            batch.response_mask,
            self._config.gamma,
            self._lam,
            batch.segment_ids,
        )
        losses_S, _ = lambda_return_losses(
            scored.values_RT,
            targets_RT,
            batch.response_mask,
            batch.segment_ids,
            len(batch.sample_ids),
            self._config.loss,
            self._config.huber_delta,
        )
        return losses_S[scored.pairs_P2.flatten()].sum() / 2


def _held_out_pairs(scored: ScoredPairs) -> list[HeldOutPair]:
    batch = scored.micro_batch.batch
    rows, means, values_RT = (
        batch.sample_ids.tolist(),
        scored.means_S.tolist(),
        scored.values_RT.float().cpu(),
    )
    segments = segments_of(batch)
    return [
        HeldOutPair(
            rows=(rows[right], rows[wrong]),
            tokens=(_length(segments[right]), _length(segments[wrong])),
            means=(means[right], means[wrong]),
            incorrect_values=tuple(
                float(f"{value:.6g}")
                for value in values_RT[segments[wrong].row, segments[wrong].response].tolist()
            ),
        )
        for right, wrong in scored.pairs_P2.tolist()
    ]


def _length(segment: Segment) -> int:
    return segment.end - segment.response_start


def _shuffled(micro_batch: MicroBatch, seed: int | None) -> np.ndarray:
    """[P, 2] the pairs, each with its sides exchanged or not by a bit of (seed, its rows)."""
    pairs_P2 = micro_batch.planned.pairs
    if seed is None:
        return pairs_P2
    rows = np.array(micro_batch.planned.rows)
    exchanged = [bool(keyed_bits(1, "labels", seed, *rows[pair].tolist())[0] & 1) for pair in pairs_P2]
    return np.where(np.array(exchanged)[:, None], pairs_P2[:, ::-1], pairs_P2)


def _nothing_yet() -> tuple[RankingStatistics, Tensor, Tensor]:
    return (
        RankingStatistics(),
        torch.zeros((), dtype=torch.float64),
        AdvantageSums().as_tensor(),
    )


def _as_metrics(
    statistics: RankingStatistics, loss_sum: Tensor, value_sums: Tensor, collective: Collective
) -> Metrics:
    total = RankingStatistics.from_tensor(collective.sum(statistics.as_tensor()))
    values = AdvantageSums.from_tensor(collective.sum(value_sums))
    all_tied = total.pairs > 0 and total.tied == total.pairs
    return {
        "loss": collective.sum(loss_sum).item() / max(total.pairs, 1.0),
        # A head that starts at zero ranks nothing: that is no accuracy of 0, and no curve should begin there.
        "pairwise_accuracy": math.nan if all_tied else total.accuracy,
        "ties": total.tied / max(total.pairs, 1.0),
        "margin": total.margin,
        "shorter_wins_accuracy": total.shorter_wins_accuracy,
        "pairs": total.pairs,
        "value_mean": values.mean if values.count else 0.0,
        "value_std": values.std if values.count else 0.0,
    }
