"""λ-return regression of the critic: the alternative to pairwise ranking (TD(λ), Sutton & Barto, chapter
12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, mse_loss, pad

from wmtp_ray.errors import ConfigError
from wmtp_ray.losses.segments import segment_means
from wmtp_ray.value_weighting.advantage import as_rows, terminal_rewards
from wmtp_ray.value_weighting.checks import require_finite, require_same_shape
from wmtp_ray.value_weighting.recursion import response_spans, solve_backward

RegressionLoss = Literal["huber", "mse"]


@torch.no_grad()
def lambda_return_targets(
    value_logits: Tensor,
    rewards: Tensor,
    loss_mask: Tensor,
    gamma: float = 1.0,
    lam: float = 0.95,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """G_T = R; G_t = γ((1−λ)V_{t+1} + λG_{t+1}) over response tokens, T the last one; 0 elsewhere.

    Args:
        value_logits: V, [B, T] or [B, T, 1]; detached.
        rewards: terminal R (1 correct, 0 wrong), [B], or [B, T] read at the last response token of each
            segment.
        loss_mask: [B, T], non-zero on response tokens; holes take part and are then zeroed.
        gamma: γ in (0, 1]. lam: λ in [0, 1].
        segment_ids: [B, T] or None, one sample per row.

    Returns:
        float32 [B, T], computed in float64, no gradient.

    Raises:
        DataError: a value or reward that takes part is NaN or infinite; names row and position. ConfigError:
            γ or λ.

    Example (γ=1, λ=.5, R=1): V = [.2 .4 .6] → G = [.5·.4 + .5·.8, .5·.6 + .5·1, 1] = [.6 .8 1].
    """
    if not 0.0 < gamma <= 1.0 or not 0.0 <= lam <= 1.0:
        raise ConfigError(f"gamma (γ) is {gamma} and lam (λ) {lam}; give γ in (0, 1] and λ in [0, 1]")
    mask_BT = loss_mask.bool()
    values_BT = as_rows(value_logits, mask_BT, segment_ids)
    spans = response_spans(mask_BT, segment_ids)
    last_BT, rewards_BT = spans.last_BT, terminal_rewards(rewards, spans).expand_as(values_BT)
    require_finite(rewards_BT, last_BT, "reward", segment_ids)
    require_finite(values_BT, spans.inside_BT & ~spans.first_BT, "value", segment_ids)
    terms_BT = gamma * (1.0 - lam) * pad(values_BT[:, 1:], (0, 1))
    terms_BT = torch.where(last_BT, rewards_BT, torch.where(spans.inside_BT, terms_BT, 0.0))
    return torch.where(mask_BT, solve_backward(terms_BT, gamma * lam, spans), 0.0).float()


def lambda_return_losses(
    values: Tensor,
    targets: Tensor,
    loss_mask: Tensor,
    segment_ids: Tensor,
    num_segments: int,
    kind: RegressionLoss = "huber",
    delta: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Huber or squared error to the λ-return, mean per sample.

    The step's loss is the mean over the correct samples' losses plus the mean over the incorrect ones', over
    2; a sample without response tokens has loss 0 and leaves its mean.

    Args:
        values: V, [B, T] or [B, T, 1], with gradient.
        targets: [B, T] from `lambda_return_targets`.
        loss_mask, segment_ids, num_segments: as in `segment_means`.
        kind: "huber" (with `delta` > 0) or "mse".

    Returns:
        Losses [S], float32 (float64 for float64 values), and numbers of response tokens [S] int64, in the order
        of `PackedBatch.sample_ids`.

    Raises:
        DataError: a value or target on the mask is not finite; shapes disagree. ConfigError: kind or delta.

    Example: values [1 3], targets [1 1], mse → (0 + 4)/2 = 2; huber (δ=1) → (0 + (2 − ½))/2 = .75.
    """
    if kind not in get_args(RegressionLoss):
        raise ConfigError(f"kind is {kind!r}; choose huber or mse")
    if not 0.0 < delta < math.inf:
        raise ConfigError(f"Huber delta (δ) is {delta}; it must be positive and finite")
    values_BT = values.squeeze(-1) if values.dim() == 3 else values
    require_same_shape(values=values_BT, targets=targets, loss_mask=loss_mask)
    mask_BT = loss_mask.bool()
    values_BT = values_BT if values_BT.dtype == torch.float64 else values_BT.float()
    # Off the mask both are replaced before the difference is taken: 0 · NaN would still be NaN in the
    # gradient.
    kept_BT = torch.where(mask_BT, values_BT, 0.0)
    wanted_BT = torch.where(mask_BT, targets.detach(), 0.0).to(kept_BT.dtype)
    require_finite(kept_BT.detach(), mask_BT, "value", segment_ids)
    require_finite(wanted_BT, mask_BT, "λ-return target", segment_ids)
    if kind == "huber":
        error_BT = huber_loss(kept_BT, wanted_BT, reduction="none", delta=delta)
    else:
        error_BT = mse_loss(kept_BT, wanted_BT, reduction="none")
    means = segment_means(error_BT, mask_BT, segment_ids, num_segments)
    return means.mean_S, means.count_S


@dataclass(frozen=True)
class LambdaSchedule:
    """λ over training: `start` during warmup, then to `end` at the last step, linearly or along half a
    cosine; or constant.

    Example (linear, 0 → 1, warmup 2, total 6): steps 0..5 give 0, 0, 0, 1/3, 2/3, 1.
    """

    kind: Literal["constant", "linear", "cosine"] = "constant"
    start: float = 0.95
    end: float = 0.95
    warmup_steps: int = 0
    total_steps: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("constant", "linear", "cosine"):
            raise ConfigError(f"λ schedule is {self.kind!r}; choose constant, linear or cosine")
        if not (0.0 <= self.start <= 1.0 and 0.0 <= self.end <= 1.0):
            raise ConfigError(f"λ runs from {self.start} to {self.end}; both must lie in [0, 1]")
        if self.warmup_steps < 0 or self.total_steps < 1:
            raise ConfigError(
                f"λ schedule has warmup_steps={self.warmup_steps} and total_steps={self.total_steps}; "
                "give at least 0 and at least 1"
            )

    def at(self, step: int) -> float:
        """λ of optimizer step `step` (from 0)."""
        if self.kind == "constant":
            return self.start
        span = max(self.total_steps - 1 - self.warmup_steps, 1)
        progress = min(max((step - self.warmup_steps) / span, 0.0), 1.0)
        if self.kind == "cosine":
            progress = (1.0 - math.cos(math.pi * progress)) / 2.0
        return self.start + (self.end - self.start) * progress
