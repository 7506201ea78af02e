"""What to log of a step's weights: spread, clipping, concentration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wmtp_ray.value_weighting.checks import require_finite, require_same_shape


@dataclass(frozen=True)
class WeightStatistics:
    """Summary of N weights. Without any weight every number is 0.

    `effective_sample_size` is the relative one, (Σw)²/(N Σw²) in (0, 1]: the share of tokens that would carry
    as much information at equal weights (Kish); about 0.65 for the default weights of normal advantages.
    `entropy` is −Σp ln p / ln N with p = w/Σw: 1 for equal weights (and for a single one), towards 0 if few
    dominate.
    """

    count: int
    mean: float
    std: float
    min: float
    max: float
    share_at_min: float
    share_at_max: float
    entropy: float
    effective_sample_size: float


@dataclass(frozen=True)
class WeightSums:
    """The sums behind `WeightStatistics`; add them over micro-batches and (after a gather) over ranks."""

    count: int = 0
    sum: float = 0.0
    sum_sq: float = 0.0
    sum_w_log_w: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    at_min: int = 0
    at_max: int = 0

    @classmethod
    @torch.no_grad()
    def of(
        cls, weights: Tensor, loss_mask: Tensor, min_weight: float = 0.1, max_weight: float = 3.0
    ) -> WeightSums:
        """Sums over the mask; see `weight_statistics`. Waits for the device."""
        require_same_shape(weights=weights, loss_mask=loss_mask)
        mask = loss_mask.bool()
        require_finite(weights, mask, "weight")
        # float32 weights meet their clip bounds as float32 numbers; compare there.
        kept = weights[mask]
        at_min, at_max = (
            int((kept <= kept.new_tensor(min_weight)).sum()),
            int((kept >= kept.new_tensor(max_weight)).sum()),
        )
        kept = kept.double()
        if kept.numel() == 0:
            return cls()
        return cls(
            count=kept.numel(),
            sum=float(kept.sum()),
            sum_sq=float(kept.square().sum()),
            sum_w_log_w=float(torch.xlogy(kept, kept).sum()),
            min=float(kept.min()),
            max=float(kept.max()),
            at_min=at_min,
            at_max=at_max,
        )

    def __add__(self, other: WeightSums) -> WeightSums:
        return WeightSums(
            count=self.count + other.count,
            sum=self.sum + other.sum,
            sum_sq=self.sum_sq + other.sum_sq,
            sum_w_log_w=self.sum_w_log_w + other.sum_w_log_w,
            min=min(self.min, other.min),
            max=max(self.max, other.max),
            at_min=self.at_min + other.at_min,
            at_max=self.at_max + other.at_max,
        )

    def statistics(self) -> WeightStatistics:
        """Population statistics (std divides by N) of everything summed so far."""
        if self.count == 0:
            return WeightStatistics(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        mean = self.sum / self.count
        std = math.sqrt(max(self.sum_sq / self.count - mean**2, 0.0))
        if self.sum <= 0.0:
            entropy = effective = 0.0
        else:
            # −Σ p ln p with p = w/S is ln S − Σ w ln w / S.
            entropy = (
                (math.log(self.sum) - self.sum_w_log_w / self.sum) / math.log(self.count)
                if self.count > 1
                else 1.0
            )
            effective = self.sum**2 / (self.count * self.sum_sq)
        return WeightStatistics(
            count=self.count,
            mean=mean,
            std=std,
            min=self.min,
            max=self.max,
            share_at_min=self.at_min / self.count,
            share_at_max=self.at_max / self.count,
            entropy=entropy,
            effective_sample_size=effective,
        )


def weight_statistics(
    weights: Tensor, loss_mask: Tensor, min_weight: float = 0.1, max_weight: float = 3.0
) -> WeightStatistics:
    """Statistics of the weights on the mask (shapes equal, [B, T] or [B, T, K]).

    `min_weight` and `max_weight` are the clip bounds whose shares are reported; give weights from before
    `mean_one`, which moves them off the bounds.

    Raises:
        DataError: a weight on the mask is NaN or infinite; names row and position.

    Example: weights [.1, 1, 3] → mean 1.3667, share_at_min = share_at_max = 1/3, effective_sample_size
    16.81/(3·10.01) = .5598.
    """
    return WeightSums.of(weights, loss_mask, min_weight, max_weight).statistics()
