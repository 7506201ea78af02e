"""Pairwise ranking of the critic: correct solutions above incorrect ones of the same problem
(Bradley–Terry).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from wmtp_ray.errors import DataError
from wmtp_ray.losses.segments import segment_means


def pairwise_ranking_loss(v_pos: Tensor, v_neg: Tensor, mask_pos: Tensor, mask_neg: Tensor) -> Tensor:
    """Mean over pairs of −log σ(v̄_pos − v̄_neg), v̄ the mean of V over a solution's response tokens.

    Args:
        v_pos, v_neg: values of the correct and the incorrect solutions, pair p in row p: [P, T] or [P, T, 1];
            the two sides may have different lengths T.
        mask_pos, mask_neg: [P, T], non-zero on response tokens.

    Returns:
        Scalar float32 (float64 for float64 values). A pair with an empty side is dropped, not scored as 0;
        `RankingStatistics.of` counts it.

    Raises:
        DataError: a value on the mask is NaN or infinite (names row and position); no pair remains; numbers
            of pairs differ.

    Example: v̄_pos = [1, 0], v̄_neg = [0, 0] → (log(1 + e⁻¹) + log 2)/2 = (.3133 + .6931)/2 = .5032.
    """
    (mean_pos_P, count_pos_P), (mean_neg_P, count_neg_P) = (
        _row_means(v_pos, mask_pos),
        _row_means(v_neg, mask_neg),
    )
    if mean_pos_P.shape != mean_neg_P.shape:
        raise DataError(
            f"{mean_pos_P.numel()} correct and {mean_neg_P.numel()} incorrect solutions do not form pairs"
        )
    return ranking_loss_from_means(mean_pos_P, mean_neg_P, (count_pos_P > 0) & (count_neg_P > 0))


def ranking_loss_from_means(
    mean_pos: Tensor, mean_neg: Tensor, valid: Tensor | None = None, normalizer: float | Tensor | None = None
) -> Tensor:
    """Σ_p −log σ(v̄_pos,p − v̄_neg,p) / normalizer over valid pairs, from means that are already computed
    (packed batches).

    Args:
        mean_pos, mean_neg: [P], for instance of `segment_means`.
        valid: [P] bool, both sides have tokens; None = all.
        normalizer: number of valid pairs of the whole step (over world size, if gradients are averaged), so
            that the loss does not depend on its cut into micro-batches; None = the valid pairs given here.

    Returns:
        Scalar. With a normalizer and no valid pair it is 0 and still differentiable.

    Raises:
        DataError: a mean that counts is not finite (names the pair); no valid pair and no normalizer.
    """
    if mean_pos.shape != mean_neg.shape or mean_pos.dim() != 1:
        raise DataError(
            f"means have shapes {list(mean_pos.shape)} and {list(mean_neg.shape)}; give [P] for both"
        )
    valid_P = torch.ones_like(mean_pos, dtype=torch.bool) if valid is None else valid.bool()
    margin_P = torch.where(valid_P, mean_pos - mean_neg, 0.0)
    bad_P = ~margin_P.detach().isfinite()
    if bool(bad_P.any()):
        raise DataError(
            f"pair {int(bad_P.nonzero()[0])} has a mean value that is not finite: the critic overflowed"
        )
    if normalizer is None:
        normalizer = valid_P.sum()
        if int(normalizer) == 0:
            raise DataError(
                f"none of {valid_P.numel()} pairs has response tokens on both sides; check max_length"
            )
    return -(logsigmoid(margin_P) * valid_P).sum() / normalizer


@dataclass(frozen=True)
class RankingStatistics:
    """Sums over pairs; add them over micro-batches and ranks, then read the rates (0 without pairs)."""

    pairs: float = 0.0
    """Pairs with tokens on both sides."""
    dropped: float = 0.0
    """Pairs with an empty side."""
    correct: float = 0.0
    tied: float = 0.0
    """Pairs whose two means are equal: no ranking at all, as of a head that starts at zero."""
    margin_sum: float = 0.0
    shorter_correct: float = 0.0

    @classmethod
    @torch.no_grad()
    def of(
        cls, mean_pos: Tensor, mean_neg: Tensor, count_pos: Tensor, count_neg: Tensor
    ) -> RankingStatistics:
        """From mean values and numbers of response tokens, all [P]. Waits for the device.

        Example: means [.9 .2] against [.1 .2], lengths [5 9] against [7 9] → pairs 2, accuracy .5 (strictly
        greater), margin .4, shorter_wins_accuracy .5.
        """
        valid_P = (count_pos > 0) & (count_neg > 0)
        margin_P = torch.where(valid_P, mean_pos.double() - mean_neg.double(), 0.0)
        sums = torch.stack(
            [
                valid_P.sum().double(),
                (~valid_P).sum().double(),
                (margin_P > 0).sum().double(),
                (valid_P & (margin_P == 0)).sum().double(),
                margin_P.sum(),
                (valid_P & (count_pos < count_neg)).sum().double(),
            ]
        )
        return cls.from_tensor(sums)

    def __add__(self, other: RankingStatistics) -> RankingStatistics:
        return RankingStatistics(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def as_tensor(self) -> Tensor:
        """float64 [6] for an all-reduce (sum)."""
        return torch.tensor([getattr(self, f.name) for f in fields(self)], dtype=torch.float64)

    @classmethod
    def from_tensor(cls, sums_6: Tensor) -> RankingStatistics:
        """Inverse of `as_tensor`."""
        return cls(*sums_6.tolist())

    @property
    def accuracy(self) -> float:
        """Share of pairs whose correct side has the strictly greater mean."""
        return self.correct / max(self.pairs, 1.0)

    @property
    def margin(self) -> float:
        """Mean of v̄_pos − v̄_neg."""
        return self.margin_sum / max(self.pairs, 1.0)

    @property
    def shorter_wins_accuracy(self) -> float:
        """What "the shorter response is the correct one" (strictly) would score on the same pairs."""
        return self.shorter_correct / max(self.pairs, 1.0)


def _row_means(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    rows = values.shape[0]
    means = segment_means(values, mask, torch.zeros(mask.shape, dtype=torch.int64, device=mask.device), rows)
    return means.mean_S, means.count_S
