"""The critic's objective: rank the correct above the incorrect solution of each pair of a step.

loss = mean over the step's pairs of -log sigmoid(mean V over the correct response - mean V over the incorrect one)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.losses import RankingStatistics, ranking_loss_from_means, segment_means
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.batch import MicroBatch
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.objective import Metrics


class RankingObjective:
    """Pairwise ranking over whole steps. Implements `Objective`."""

    needs_values = False

    def __init__(self, model: ValueModel, device: torch.device) -> None:
        self.model = model
        self._device = device
        self._statistics = RankingStatistics()
        self._num_pairs = 0

    def prepare(self, step: PlannedStep, mine: Sequence[MicroBatch], collective: Collective) -> None:
        """The plan knows the step's pairs: nothing has to be reduced."""
        self._num_pairs = sum(len(planned.pairs) for planned in step.micro_batches)
        self._statistics = RankingStatistics()

    def backward(self, micro_batch: MicroBatch) -> None:
        """Add the gradient of this micro-batch's share of the step's mean."""
        correct_P, incorrect_P, statistics = self._compare(micro_batch)
        ranking_loss_from_means(correct_P, incorrect_P, normalizer=self._num_pairs).backward()
        self._statistics += statistics

    def metrics(self, collective: Collective) -> Metrics:
        return _as_metrics(self._statistics, collective)

    def evaluate(self, micro_batches: Iterable[MicroBatch], collective: Collective) -> Metrics:
        return _as_metrics(sum((self._compare(m)[2] for m in micro_batches), RankingStatistics()), collective)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def _compare(self, micro_batch: MicroBatch) -> tuple[Tensor, Tensor, RankingStatistics]:
        """Mean values of the correct and the incorrect side of each pair, [P] each, and the pairs' statistics."""
        batch = micro_batch.batch.to(self._device)
        means = segment_means(
            self.model(batch), batch.response_mask, batch.segment_ids, len(batch.sample_ids)
        )
        correct, incorrect = torch.from_numpy(micro_batch.planned.pairs).to(self._device).unbind(dim=1)
        sides = means.mean_S[correct], means.mean_S[incorrect]
        counts = means.count_S[correct], means.count_S[incorrect]
        return *sides, RankingStatistics.of(*sides, *counts)


def _as_metrics(statistics: RankingStatistics, collective: Collective) -> Metrics:
    total = RankingStatistics.from_tensor(collective.sum(statistics.as_tensor()))
    return {
        "loss": total.loss,
        "pairwise_accuracy": total.accuracy,
        "margin": total.margin,
        "shorter_wins_accuracy": total.shorter_wins_accuracy,
        "pairs": total.pairs,
    }
