"""Rho-1: train on the targets whose loss exceeds a frozen reference model's the most.

Losses of the policy come from the step itself; the reference's are computed ahead and cached as critic values are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wmtp_ray.config.weighting import Rho1Weighting
from wmtp_ray.data.batch import shift_left
from wmtp_ray.data.micro_batch import MicroBatch, Need
from wmtp_ray.value_weighting.methods.method import LossSelection
from wmtp_ray.value_weighting.rho1 import kept_targets, rho1_weights


class Rho1(LossSelection):
    """Weights 1 on the kept share of each head's targets, 0 elsewhere."""

    needs: ClassVar[frozenset[Need]] = frozenset({"reference_losses"})

    def __init__(self, config: Rho1Weighting) -> None:
        self._config = config
        self.over_step = config.selection == "step"

    def select(self, k: int, losses_RT: Tensor, valid_RT: Tensor, micro_batch: MicroBatch) -> Tensor:
        """Exactly ⌈k_percent·n⌉ of the micro-batch's n valid targets of head k; ties go to the earlier position."""
        return rho1_weights(
            losses_RT.unsqueeze(-1),
            self._reference(k, micro_batch).to(losses_RT.device).unsqueeze(-1),
            valid_RT.unsqueeze(-1),
            self._config.k_percent,
            self._config.mode,
        ).squeeze(-1)

    def select_step(
        self, k: int, losses: list[Tensor], valid: list[Tensor], mine: Sequence[MicroBatch], gather: Any
    ) -> list[Tensor]:
        """The same over all micro-batches of the step, in the order of their numbers, so that ties fall alike."""
        own = {
            m.number: (losses_RT[valid_RT].cpu(), self._reference(k, m)[valid_RT.cpu()])
            for m, losses_RT, valid_RT in zip(mine, losses, valid, strict=True)
        }
        every = {number: pair for part in gather(own) for number, pair in part.items()}
        numbers = sorted(every)
        policy_N, reference_N = (
            torch.cat([every[n][side] for n in numbers])[None, :, None] for side in (0, 1)
        )
        chosen_N = rho1_weights(
            policy_N,
            reference_N,
            torch.ones_like(policy_N, dtype=torch.bool),
            self._config.k_percent,
            self._config.mode,
        ).flatten()
        parts = dict(zip(numbers, chosen_N.split([len(every[n][0]) for n in numbers]), strict=True))
        weights = []
        for m, valid_RT in zip(mine, valid, strict=True):
            weights_RT = torch.zeros(valid_RT.shape)
            weights_RT[valid_RT.cpu()] = parts[m.number]
            weights.append(weights_RT)
        return weights

    def weight_sum(self, num_valid: int) -> int:
        return kept_targets(num_valid, self._config.k_percent)

    @staticmethod
    def _reference(k: int, micro_batch: MicroBatch) -> Tensor:
        """[R, T]: the reference's loss of the token that head k predicts from each position.

        It predicts that token from position t+k−1, and its losses stand at the token itself, t+k.
        """
        losses_RT = micro_batch.reference_losses_RT
        assert losses_RT is not None
        return shift_left(losses_RT, k, 0.0)
