"""Controls that keep everything of the critic's weights but the insight.

Each starts from the weights that the critic gives and changes which token has which. All are functions of (seed,
sample) and of sums over the whole step, so packing, micro-batches and workers change nothing. Where EOS has weight 1
anyway, it takes no part in what is moved around: the weights that count are the same numbers as the critic's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmtp_ray.config.weighting import ControlWeighting, CriticObjectiveKind
from wmtp_ray.data.keyed import keyed_bits, keyed_order
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.segments import map_responses, segments_of
from wmtp_ray.value_weighting.methods.critic import CriticAdvantage
from wmtp_ray.value_weighting.methods.method import Total

_BINS = 512
_NO_TOKEN = -1


class Control(CriticAdvantage):
    """The critic's weights, changed by `_change` within each response."""

    def __init__(
        self, config: ControlWeighting, eos_token_id: int, critic: CriticObjectiveKind, folds: int
    ) -> None:
        super().__init__(config, critic, folds)
        self._seed = config.seed
        self._fixed_id = eos_token_id if config.eos_weight == "one" else _NO_TOKEN

    def weigh(self, micro_batch: MicroBatch) -> Tensor:
        ids_RT, batch = micro_batch.batch.input_ids, micro_batch.batch
        ends = [int(ids_RT[segment.row, segment.end - 1]) == self._fixed_id for segment in segments_of(batch)]
        fixed = dict(zip(batch.sample_ids.tolist(), ends, strict=True))

        def change(sample: int, weights: np.ndarray) -> np.ndarray:
            moved = len(weights) - fixed[sample]
            return np.concatenate([self._change(sample, weights[:moved]), weights[moved:]])

        return map_responses(super().weigh(micro_batch), batch, change)

    @abstractmethod
    def _change(self, sample: int, weights: np.ndarray) -> np.ndarray:
        """The weights of one response, other than those the critic gave."""


class CircularShift(Control):
    """Each response's weights rotated by a random number of tokens: autocorrelation kept, place lost."""

    def _change(self, sample: int, weights: np.ndarray) -> np.ndarray:
        if len(weights) < 2:
            return weights
        bits = keyed_bits(1, "circular_shift", self._seed, sample)
        return np.roll(weights, 1 + int(bits[0] % (len(weights) - 1)))


class Shuffled(Control):
    """Each response's weights in random order."""

    def _change(self, sample: int, weights: np.ndarray) -> np.ndarray:
        return weights[keyed_order(len(weights), "shuffled", self._seed, sample)]


class SequenceMean(Control):
    """Every token has the mean weight of its response: what is left if the critic only preferred some programs."""

    def _change(self, sample: int, weights: np.ndarray) -> np.ndarray:
        return np.full_like(weights, weights.mean()) if len(weights) else weights


class RandomMatched(Control):
    """Weights drawn anew for every token, with the distribution that the critic's have over the whole step.

    The distribution is a histogram of 512 bins over the clip range, reduced over the step's micro-batches and ranks;
    a draw is the mean weight of its bin, so mean and variance are the critic's up to a bin's width. A held-out sample
    draws from the latest step's.
    """

    def __init__(
        self, config: ControlWeighting, eos_token_id: int, critic: CriticObjectiveKind, folds: int
    ) -> None:
        super().__init__(config, eos_token_id, critic, folds)
        self._histogram_2N = torch.zeros(2, _BINS, dtype=torch.float64)

    def update(self, mine: Sequence[MicroBatch], total: Total) -> None:
        super().update(mine, total)
        low, high = self.bounds
        histogram_2N = torch.zeros_like(self._histogram_2N)
        for micro_batch in mine:
            batch = micro_batch.batch
            moved_RT = batch.response_mask & (batch.labels != self._fixed_id)
            weights_N = CriticAdvantage.weigh(self, micro_batch)[moved_RT].double()
            bin_N = ((weights_N - low) / max(high - low, 1e-12) * _BINS).long().clamp(0, _BINS - 1)
            histogram_2N[0].index_add_(0, bin_N, torch.ones_like(weights_N))
            histogram_2N[1].index_add_(0, bin_N, weights_N)
        self._histogram_2N = total(histogram_2N)

    def _change(self, sample: int, weights: np.ndarray) -> np.ndarray:
        count_N, sum_N = self._histogram_2N.numpy()
        if not count_N.sum():
            return weights
        draws = keyed_bits(len(weights), "random_matched", self._seed, sample) / 2.0**64
        bins = np.searchsorted(count_N.cumsum() / count_N.sum(), draws, side="right").clip(max=_BINS - 1)
        return sum_N[bins] / count_N[bins]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"histogram": self._histogram_2N.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._histogram_2N = torch.tensor(state["histogram"], dtype=torch.float64)
