"""Running mean and standard deviation of the advantages of whole optimizer steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting.checks import require_finite, require_same_shape

_SMALLEST_VARIANCE = 1e-8


@dataclass(frozen=True)
class AdvantageSums:
    """Σx, Σx² and n of advantages: add them over micro-batches and ranks, then update the EMA once per step.

    Python floats, that is float64. Example: the sums of [1, 2] plus those of [3] are (6, 14, 3).
    """

    sum: float = 0.0
    sum_sq: float = 0.0
    count: float = 0.0

    @classmethod
    def of(cls, advantages: Tensor, loss_mask: Tensor) -> AdvantageSums:
        """Sums over the mask. Both [B, T]; computed in float64. Waits for the device.

        Raises:
            DataError: an advantage on the mask is NaN or infinite; names row and position.
        """
        require_same_shape(advantages=advantages, loss_mask=loss_mask)
        mask = loss_mask.bool()
        masked = torch.where(mask, advantages.detach(), 0.0).double()
        total, total_sq, count = torch.stack(
            [masked.sum(), masked.square().sum(), mask.sum().double()]
        ).tolist()
        if not math.isfinite(total_sq):
            require_finite(advantages, mask, "advantage")
        return cls(total, total_sq, count)

    def __add__(self, other: AdvantageSums) -> AdvantageSums:
        return AdvantageSums(self.sum + other.sum, self.sum_sq + other.sum_sq, self.count + other.count)

    def as_tensor(self) -> Tensor:
        """float64 [3] for an all-reduce (sum)."""
        return torch.tensor([self.sum, self.sum_sq, self.count], dtype=torch.float64)

    @classmethod
    def from_tensor(cls, sums_3: Tensor) -> AdvantageSums:
        """Inverse of `as_tensor`."""
        total, total_sq, count = sums_3.tolist()
        return cls(total, total_sq, count)

    @property
    def mean(self) -> float:
        """E[x] = Σx/n."""
        return self.sum / self.count

    @property
    def std(self) -> float:
        """√max(E[x²] − E[x]², 1e−8)."""
        return math.sqrt(max(self.sum_sq / self.count - self.mean**2, _SMALLEST_VARIANCE))


class EMAState(TypedDict):
    """What a checkpoint holds of an `AdvantageEMA`."""

    mean: float
    std: float
    updates: int


class AdvantageEMA:
    """m ← a·m + (1−a)·batch, for mean and standard deviation alike; one update per optimizer step, **before**
    its weights.

    Update number k (from 1) has the old share a = (k−1)/warmup_steps while k ≤ warmup_steps, afterwards 1 −
    momentum. So the first update takes the batch's own statistics whole (also with warmup_steps=0): nothing
    is ever whitened by (0, 1).

    Example (momentum .1, warmup 10): batch means 2, 4 give the EMA means 2, then .1·2 + .9·4 = 3.8.
    """

    def __init__(self, momentum: float = 0.1, warmup_steps: int = 10) -> None:
        if not 0.0 < momentum <= 1.0:
            raise ConfigError(f"EMA momentum is {momentum}; it must lie in (0, 1]")
        if warmup_steps < 0:
            raise ConfigError(f"EMA warmup_steps is {warmup_steps}; it must be 0 or more")
        self.momentum = momentum
        self.warmup_steps = warmup_steps
        self.updates = 0
        self._mean = 0.0
        self._std = 0.0

    @property
    def mean(self) -> float:
        """μ after the latest update. RuntimeError before the first one."""
        self._require_update()
        return self._mean

    @property
    def std(self) -> float:
        """σ after the latest update. RuntimeError before the first one."""
        self._require_update()
        return self._std

    def update(self, advantages: Tensor, loss_mask: Tensor) -> None:
        """Take in one step's advantages [B, T] over the mask [B, T]; an empty mask changes nothing. Errors:
        `AdvantageSums.of`.
        """
        self.update_from_sums(AdvantageSums.of(advantages, loss_mask))

    def update_from_sums(self, sums: AdvantageSums) -> None:
        """Take in one step's reduced sums; a count of 0 changes nothing.

        Raises:
            DataError: the sums are not finite (a rank sent a NaN).
        """
        if not (math.isfinite(sums.sum) and math.isfinite(sums.sum_sq) and math.isfinite(sums.count)):
            raise DataError(
                f"advantage statistics of the step are not finite: {sums}; look for non-finite critic values"
            )
        if sums.count == 0:
            return
        self.updates += 1
        if self.updates == 1:
            old_share = 0.0
        elif self.updates <= self.warmup_steps:
            old_share = (self.updates - 1) / self.warmup_steps
        else:
            old_share = 1.0 - self.momentum
        self._mean = old_share * self._mean + (1.0 - old_share) * sums.mean
        self._std = old_share * self._std + (1.0 - old_share) * sums.std

    def state_dict(self) -> EMAState:
        """Statistics and number of updates, plain numbers. Momentum and warmup are configuration, not
        state.
        """
        return EMAState(mean=self._mean, std=self._std, updates=self.updates)

    def load_state_dict(self, state: EMAState) -> None:
        """Restore `state_dict()` exactly.

        Raises:
            DataError: a key is missing or unknown, or a number is not finite.
        """
        expected = set(EMAState.__annotations__)
        if set(state) != expected:
            raise DataError(
                f"EMA state has keys {sorted(state)}, expected {sorted(expected)}; "
                "the checkpoint is of another version"
            )
        if not (math.isfinite(state["mean"]) and math.isfinite(state["std"])) or state["updates"] < 0:
            raise DataError(f"EMA state is damaged: {state}")
        self._mean, self._std, self.updates = float(state["mean"]), float(state["std"]), int(state["updates"])

    def _require_update(self) -> None:
        if self.updates == 0:
            raise RuntimeError("AdvantageEMA has seen no advantages yet; call update() with the step's first")
