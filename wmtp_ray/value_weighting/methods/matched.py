"""The control that knows grammar and place, but no program: the critic's mean weight of each Python token class and
tenth of the response.

If it does as well as the critic, the critic has learnt which kinds of tokens to stress, not which tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wmtp_ray.data.micro_batch import MicroBatch, Need
from wmtp_ray.value_weighting.methods.critic import CriticAdvantage
from wmtp_ray.value_weighting.methods.method import Total
from wmtp_ray.value_weighting.token_classes import NUM_CELLS

PRIOR_TOKENS = 10
"""A cell's mean counts so many tokens of mean weight beside its own, so that rare cells say little."""


class ClassPositionMatched(CriticAdvantage):
    """Weights from a table of (class, tenth): the mean of the critic's weights over **earlier** steps.

    The table is never fitted on the step that uses it, or a rare cell's mean would be its token's own critic weight. In
    the first step it is empty and every token weighs 1. Sums are reduced over all ranks, so workers change nothing.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"values", "token_cells"})
    _table_2N: Tensor = torch.zeros(2, NUM_CELLS, dtype=torch.float64)
    """Numbers of tokens and sums of their weights."""

    def step(self, mine: Sequence[MicroBatch], total: Total) -> list[Tensor]:
        self.update(mine, total)
        weights = [self.weigh(micro_batch) for micro_batch in mine]
        sums_2N = torch.zeros_like(self._table_2N)
        for micro_batch in mine:
            cells_RT, mask_RT = _cells(micro_batch), micro_batch.batch.response_mask
            weights_N = CriticAdvantage.weigh(self, micro_batch)[mask_RT].double()
            sums_2N[0].index_add_(0, cells_RT[mask_RT], torch.ones_like(weights_N))
            sums_2N[1].index_add_(0, cells_RT[mask_RT], weights_N)
        self._table_2N = self._table_2N + total(sums_2N)
        return weights

    def weigh(self, micro_batch: MicroBatch) -> Tensor:
        count_N, sum_N = self._table_2N
        mask_RT = micro_batch.batch.response_mask
        if not count_N.any():
            return mask_RT.float()
        mean = sum_N.sum() / count_N.sum()
        weight_N = (sum_N + PRIOR_TOKENS * mean) / (count_N + PRIOR_TOKENS)
        return torch.where(mask_RT, weight_N[_cells(micro_batch).clamp_min(0)], 0.0).float()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"table": self._table_2N.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._table_2N = torch.tensor(state["table"], dtype=torch.float64)


def _cells(micro_batch: MicroBatch) -> Tensor:
    assert micro_batch.token_cells_RT is not None
    return micro_batch.token_cells_RT
