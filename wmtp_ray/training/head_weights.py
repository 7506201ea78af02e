"""The weights of one micro-batch as the loss takes them: by head, known ahead or chosen by the head's losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wmtp_ray.config.weighting import WeightingBase
from wmtp_ray.data.batch import IGNORED_LABEL
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.losses import WeightAlignment, align_weights, mtp_targets
from wmtp_ray.training.weight_report import WeightReport
from wmtp_ray.value_weighting import with_eos_weight_one
from wmtp_ray.value_weighting.methods import LossSelection, WeightingMethod


class HeadWeights:
    """Weights of each head's targets, by the position that predicts.

    `weights` are by predicted token [R, T], or by position and head [R, T, K]; None where `method` selects by loss.
    With `eos_weight: one` the end-of-sequence targets weigh 1 whatever the method says, and a selection neither counts
    nor ranks them.
    """

    def __init__(
        self,
        micro_batch: MicroBatch,
        weights: Tensor | None,
        method: WeightingMethod,
        weighting: WeightingBase,
        num_heads: int,
        eos_token_id: int,
    ) -> None:
        self._micro_batch, self._batch = micro_batch, micro_batch.batch
        self._method = method
        self._alignment: WeightAlignment = weighting.alignment
        self._eos = eos_token_id
        self._eos_one = weighting.eos_weight == "one"
        self._heads = range(1, num_heads + 1)
        self._chosen: dict[int, Tensor] = {}
        if weights is not None and self._eos_one and weights.dim() == 2:
            weights = with_eos_weight_one(weights, self._batch.labels, eos_token_id)
        self._weights = weights

    @property
    def of_tokens(self) -> Tensor:
        """[R, T], or [R, T, K] once a selection has been made."""
        if self._weights is not None:
            return self._weights
        return torch.stack([self._chosen[k] for k in self._heads], dim=-1)

    def targets(self, k: int) -> Tensor:
        """[R, T]: what head k predicts at each position, -100 where there is none."""
        return mtp_targets(self._batch.labels, self._batch.segment_ids, k, self._alignment)

    def candidates(self, k: int) -> Tensor:
        """[R, T] bool: the targets of head k that a selection chooses from."""
        targets_RT = self.targets(k)
        valid_RT = targets_RT != IGNORED_LABEL
        return valid_RT & (targets_RT != self._eos) if self._eos_one else valid_RT

    def of_head(self, k: int, device: torch.device) -> Tensor | Callable[[Tensor], Tensor]:
        """[R, T] on `device`; or the choice itself, a function of the head's losses [R, T]."""
        if self._weights is None and k not in self._chosen:
            return lambda losses_RT: self._select(k, losses_RT)
        return self._known(k).to(device)

    def settle(self, k: int, weights_RT: Tensor) -> None:
        """Fix head k's weights to a selection made elsewhere."""
        always_RT = self._always(k).to(weights_RT.device)
        self._chosen[k] = torch.where(always_RT, 1.0, weights_RT.float()).cpu()

    def sums(self) -> Tensor:
        """[2, K] float64: sum of weights, number of valid targets. A selection's sum is known before it is made."""
        counts = [(self.targets(k) != IGNORED_LABEL).double().sum() for k in self._heads]
        return torch.stack([torch.stack([self._weight_sum(k) for k in self._heads]), torch.stack(counts)])

    def report_to(self, report: WeightReport) -> None:
        """Add these weights to a report, once every head has its own."""
        weights = self.of_tokens
        if weights.dim() == 2:
            report.add(weights, self._batch.response_mask, self._batch.labels == self._eos)
            return
        targets_RTK = torch.stack([self.targets(k) for k in self._heads], dim=-1)
        weights_RTK = torch.stack([self._known(k) for k in self._heads], dim=-1)
        report.add(weights_RTK, targets_RTK != IGNORED_LABEL, targets_RTK == self._eos)

    def _select(self, k: int, losses_RT: Tensor) -> Tensor:
        assert isinstance(self._method, LossSelection)
        candidates_RT = self.candidates(k).to(losses_RT.device)
        self.settle(k, self._method.select(k, losses_RT, candidates_RT, self._micro_batch))
        return self._chosen[k].to(losses_RT)

    def _known(self, k: int) -> Tensor:
        if self._weights is None:
            return self._chosen[k]
        weights_RT = align_weights(
            self._weights, k, self._alignment, self._batch.segment_ids, self._batch.labels
        )
        return torch.where(self._always(k), 1.0, weights_RT)

    def _always(self, k: int) -> Tensor:
        """[R, T] bool: targets that weigh 1 whatever the method says."""
        targets_RT = self.targets(k)
        return (targets_RT == self._eos) & self._eos_one

    def _weight_sum(self, k: int) -> Tensor:
        if self._weights is not None or k in self._chosen:
            return self._known(k).double().sum()
        assert isinstance(self._method, LossSelection)
        kept = self._method.weight_sum(int(self.candidates(k).sum())) + int(self._always(k).sum())
        return torch.tensor(float(kept), dtype=torch.float64)
