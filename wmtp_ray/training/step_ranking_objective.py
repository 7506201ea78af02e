"""Ranking over all comparisons of a step: every correct with every incorrect program of the same problem.

The comparisons cross micro-batches and ranks, yet only mean values have to be in one place: their gradient is computed
from all of them first, and each micro-batch then passes its own share on (the two passes of GradCache, Gao et al.,
2021, arXiv:2101.06983).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.losses import RankingStatistics, ranking_loss_from_means
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.critic_objective import RankingObjective, ScoredPairs
from wmtp_ray.training.generator import seed_generators


@dataclass(frozen=True)
class Sides:
    """Both sides of a micro-batch's planned pairs, [N = 2P] each."""

    number: int
    problem_N: np.ndarray
    correct_N: np.ndarray
    tokens_N: np.ndarray
    mean_N: Tensor
    """float32, on the CPU"""


class StepRankingObjective(RankingObjective):
    """Mean of -log sigmoid(mean V of a correct - mean V of an incorrect program) over every such two programs of one
    problem among the step's pairs. Implements `Objective`; `evaluate` is over the planned pairs.

    Costs a second forward pass, except for a rank with a single micro-batch.

    Args:
        row_problem: [rows of the store] the problem of each row.
        seed: of dropout, which both passes draw alike.
        shuffle_seed: as in `RankingObjective`.
    """

    def __init__(
        self,
        model: ValueModel,
        device: torch.device,
        row_problem: np.ndarray,
        seed: int,
        shuffle_seed: int | None = None,
    ) -> None:
        super().__init__(model, device, shuffle_seed)
        self._row_problem = row_problem
        self._seed = seed
        self._step = 0
        self._slopes: dict[int, Tensor] = {}
        self._kept: ScoredPairs | None = None

    def prepare(self, step: PlannedStep, mine: Sequence[MicroBatch], collective: Collective) -> None:
        """Mean values of the whole step, and the gradient with respect to each."""
        self._begin(0)
        self._step = step.number
        single = len(mine) == 1
        with torch.set_grad_enabled(single):
            scored = [self._pass(micro_batch) for micro_batch in mine]
        self._kept = scored[0] if single else None
        own = [self._sides(of_micro_batch) for of_micro_batch in scored]
        sides = sorted((s for share in collective.gather(own) for s in share), key=lambda s: s.number)
        mean_N = torch.cat([s.mean_N for s in sides]).requires_grad_()
        correct_C, incorrect_C = _comparisons(sides)
        loss = ranking_loss_from_means(mean_N[correct_C], mean_N[incorrect_C])
        loss.backward()
        assert mean_N.grad is not None
        slopes = mean_N.grad.split([len(s.mean_N) for s in sides])
        self._slopes = {s.number: slope for s, slope in zip(sides, slopes, strict=True)}
        if collective.rank == 0:  # `metrics` sums over ranks
            means, tokens = mean_N.detach(), torch.from_numpy(np.concatenate([s.tokens_N for s in sides]))
            self._statistics = RankingStatistics.of(
                *(means[side] for side in (correct_C, incorrect_C)),
                *(tokens[side] for side in (correct_C, incorrect_C)),
            )
            self._loss_sum = loss.detach().double() * len(correct_C)

    def backward(self, micro_batch: MicroBatch) -> None:
        """Pass this micro-batch's share of the step's gradient on."""
        scored = self._kept or self._pass(micro_batch)
        self._kept = None
        slope_N = self._slopes[micro_batch.number].to(scored.means_S)
        (slope_N * scored.means_S[scored.pairs_P2.flatten()]).sum().backward()
        self._value_sums += scored.value_sums

    def _pass(self, micro_batch: MicroBatch) -> ScoredPairs:
        seed_generators(self._seed, self._step, micro_batch.number)
        return self._score_training(micro_batch)

    def _sides(self, scored: ScoredPairs) -> Sides:
        planned = scored.micro_batch.planned
        sides_N = scored.pairs_P2.flatten().cpu().numpy()
        return Sides(
            scored.micro_batch.number,
            problem_N=self._row_problem[np.array(planned.rows, dtype=np.int64)[sides_N]],
            correct_N=np.arange(len(sides_N)) % 2 == 0,
            tokens_N=planned.targets[sides_N],
            mean_N=scored.means_S.detach()[scored.pairs_P2.flatten()].float().cpu(),
        )


def _comparisons(sides: Sequence[Sides]) -> tuple[Tensor, Tensor]:
    """[C] each: places, among all sides, of a correct and an incorrect program of the same problem."""
    problem_N = np.concatenate([s.problem_N for s in sides])
    correct_N = np.concatenate([s.correct_N for s in sides])
    compared = (problem_N[:, None] == problem_N) & correct_N[:, None] & ~correct_N
    correct_C, incorrect_C = np.nonzero(compared)
    return torch.from_numpy(correct_C), torch.from_numpy(incorrect_C)
