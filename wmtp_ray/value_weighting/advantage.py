"""TD errors and generalised advantages from a critic's per-token values.

Generalised advantage estimation (Schulman et al., arXiv 1506.02438) for a critic whose V_t is the value
**after** reading token t: choosing token t moved the value from V_{t−1} to V_t, so token t is credited with
δ_t = γV_t − V_{t−1} and A_t = δ_t + γλ·A_{t+1}, up to the last response token.

A ranking critic can also be read otherwise. What it was trained to rank by is the mean of V over a response, so V_t is
token t's own share in its program's score: `credit="level"` takes δ_t = V_t − V̄, how far it stands above that mean.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting.checks import require_finite, require_same_shape
from wmtp_ray.value_weighting.recursion import ResponseSpans, response_spans, solve_backward

FirstToken = Literal["prompt_value", "initial_value", "zero"]
Credit = Literal["change", "level"]


@torch.no_grad()
def compute_gae_advantage(
    value_logits: Tensor,
    rewards: Tensor | None,
    loss_mask: Tensor,
    gamma: float = 1.0,
    lam: float = 0.95,
    initial_value: float = 0.5,
    first_token: FirstToken = "prompt_value",
    segment_ids: Tensor | None = None,
    credit: Credit = "change",
) -> Tensor:
    """A_t = δ_t + γλ·A_{t+1} over the response tokens of every sample; 0 elsewhere.

    Args:
        value_logits: V, [B, T] or [B, T, 1], any floating dtype; detached. V_t is the value after token t.
        rewards: terminal reward R of each row [B], or [B, T], read at the last response token of each segment
            (for rows that pack several samples). Then the episode ends there: δ_T = R − V_{T−1}. None: δ_T =
            γV_T − V_{T−1}. Only meaningful for a critic trained on the scale of R (λ-return), which the
            caller has to know.
        loss_mask: [B, T], non-zero on response tokens. Masked-out positions between the first and the last
            response token of a sample (holes) take part in the recursion and are then zeroed.
        gamma: discount γ in (0, 1].
        lam: λ in [0, 1]; one formula for all, continuous up to both ends.
        initial_value: stands for V_{t−1} where nothing of the sample precedes.
        first_token: V_{t−1} of the first response token: "prompt_value" takes the value at the last prompt
            token, "initial_value" takes `initial_value`; "zero" sets δ = 0 there, whatever the values and
            rewards are.
        segment_ids: [B, T], equal within a packed sample, different in neighbours; None: each row is one
            sample.
        credit: "change" is δ as above. "level" is δ_t = V_t − V̄, V̄ the mean over the sample's response tokens (0 in
            holes): for ranking critics, whose V_t is a share of that mean. Takes no rewards; first_token and
            initial_value change nothing.

    Returns:
        float32 [B, T], computed in float64.

    Raises:
        DataError: shapes disagree, or a value or reward that takes part is NaN or infinite: names row and
            position. Values that take no part (padding, prompt before its last token) may be anything.
        ConfigError: γ, λ, initial_value, first_token or credit out of range; rewards with credit "level".

    No Python loop over tokens or rows. On a CPU the check for non-finite values is one sum over the result.
    On an accelerator nothing waits for the device: instead of raising, the result is NaN exactly at the
    tokens whose δ is not finite (not at their neighbours), and `AdvantageSums.of` or `build_weights`, which
    read the result anyway, refuse it by name.

    Example (γ=1, λ=.95, one prompt token): V = [.5 | .7 .9 .2] gives δ = [.2 .2 −.7] and
    A = [.2 + .95·(−.465), .2 + .95·(−.7), −.7] = [−.24175, −.465, −.7]. With credit "level" and λ=0,
    A = [.1 .3 −.4], since V̄ = .6.
    """
    if not 0.0 <= lam <= 1.0:
        raise ConfigError(f"lam (λ) is {lam}; it must lie in [0, 1]")
    mask_BT = loss_mask.bool()
    deltas_BT, spans = _deltas(
        value_logits, rewards, mask_BT, gamma, initial_value, first_token, segment_ids, credit
    )
    finite_BT = None
    if not _raises_at_once(deltas_BT.device):
        finite_BT = deltas_BT.isfinite()
        deltas_BT = torch.where(finite_BT, deltas_BT, 0.0)
    advantages_BT = solve_backward(deltas_BT, gamma * lam, spans)
    advantages_BT = torch.where(mask_BT, advantages_BT, 0.0)
    if finite_BT is not None:
        advantages_BT = torch.where(finite_BT, advantages_BT, torch.nan)
    return advantages_BT.float()


@torch.no_grad()
def compute_td_errors(
    value_logits: Tensor,
    rewards: Tensor | None,
    loss_mask: Tensor,
    gamma: float = 1.0,
    initial_value: float = 0.5,
    first_token: FirstToken = "prompt_value",
    segment_ids: Tensor | None = None,
) -> Tensor:
    """δ_t = γV_t − V_{t−1} on response tokens, 0 elsewhere: what `compute_gae_advantage` gives at λ=0, with
    its arguments.

    Returns float32 [B, T]. Errors and the behaviour on accelerators are those of `compute_gae_advantage`.

    Example (γ=1, one prompt token): V = [.5 | .7 .9 .2] gives δ = [.2 .2 −.7]; with `rewards=[1.]` the last
    is 1 − .9 = .1.
    """
    mask_BT = loss_mask.bool()
    deltas_BT, _ = _deltas(value_logits, rewards, mask_BT, gamma, initial_value, first_token, segment_ids)
    return torch.where(mask_BT, deltas_BT, 0.0).float()


def _deltas(
    value_logits: Tensor,
    rewards: Tensor | None,
    mask_BT: Tensor,
    gamma: float,
    initial_value: float,
    first_token: FirstToken,
    segment_ids: Tensor | None,
    credit: Credit = "change",
) -> tuple[Tensor, ResponseSpans]:
    """δ in float64 over each sample's span, holes included, 0 outside; and the spans."""
    if not 0.0 < gamma <= 1.0:
        raise ConfigError(f"gamma (γ) is {gamma}; it must lie in (0, 1]")
    if first_token not in get_args(FirstToken):
        raise ConfigError(f"first_token is {first_token!r}; choose one of {', '.join(get_args(FirstToken))}")
    if credit not in get_args(Credit):
        raise ConfigError(f"credit is {credit!r}; choose one of {', '.join(get_args(Credit))}")
    if credit == "level" and rewards is not None:
        raise ConfigError('credit is "level", which has no end to reward; use "change", or no rewards')
    if not abs(initial_value) < float("inf"):
        raise ConfigError(f"initial_value is {initial_value}; it must be finite")
    values_BT = as_rows(value_logits, mask_BT, segment_ids)
    spans = response_spans(mask_BT, segment_ids)
    if credit == "level":
        taking_part_BT, first_token = mask_BT, "zero"  # nothing before the response is read
        deltas_BT = values_BT - _response_means(values_BT, mask_BT, spans)
    else:
        previous_BT = spans.previous(values_BT, initial_value)
        if first_token == "initial_value":
            previous_BT = torch.where(spans.first_BT, initial_value, previous_BT)
        deltas_BT = gamma * values_BT - previous_BT
        if rewards is not None:
            deltas_BT = torch.where(spans.last_BT, terminal_rewards(rewards, spans) - previous_BT, deltas_BT)
        taking_part_BT = spans.inside_BT & ~spans.first_BT if first_token == "zero" else spans.inside_BT
    deltas_BT = torch.where(taking_part_BT, deltas_BT, 0.0)
    if _raises_at_once(deltas_BT.device) and not bool(deltas_BT.sum().isfinite()):
        _name_non_finite(values_BT, rewards, spans, first_token, segment_ids)
        require_finite(deltas_BT, taking_part_BT, "TD error", segment_ids)
    return deltas_BT, spans


def _response_means(values_BT: Tensor, mask_BT: Tensor, spans: ResponseSpans) -> Tensor:
    """[B, T] float64: at every token the mean value of its segment's response tokens, 0 where it has none."""
    segment_BT = torch.zeros_like(mask_BT, dtype=torch.int64)
    if spans.starts_BT is not None:
        segment_BT = spans.starts_BT.long().cumsum(1) - 1
    sums_BT, counts_BT = (
        torch.zeros_like(values_BT).scatter_add(1, segment_BT, torch.where(mask_BT, of_token_BT, 0.0))
        for of_token_BT in (values_BT, torch.ones_like(values_BT))
    )
    return (sums_BT / counts_BT.clamp_min(1)).gather(1, segment_BT)


def as_rows(value_logits: Tensor, mask_BT: Tensor, segment_ids: Tensor | None) -> Tensor:
    """[B, T] or [B, T, 1] values as float64 [B, T], with shapes checked against mask and segment ids."""
    values_BT = (
        value_logits.squeeze(-1) if value_logits.dim() == 3 and value_logits.shape[-1] == 1 else value_logits
    )
    if values_BT.shape != mask_BT.shape or values_BT.dim() != 2:
        raise DataError(
            f"values have shape {list(value_logits.shape)} and the mask {list(mask_BT.shape)}; "
            "give values [B, T] or [B, T, 1] and a mask [B, T]"
        )
    if segment_ids is not None:
        require_same_shape(segment_ids=segment_ids, loss_mask=mask_BT)
    return values_BT.double()


def terminal_rewards(rewards: Tensor, spans: ResponseSpans) -> Tensor:
    """Rewards [B] or [B, T] as float64 that broadcasts over [B, T]; [B] only if no row holds two samples."""
    shape = spans.inside_BT.shape
    if rewards.shape == shape:
        return rewards.double()
    if rewards.shape != shape[:1]:
        raise DataError(
            f"rewards have shape {list(rewards.shape)}; give one per row [{shape[0]}] or {list(shape)}"
        )
    if spans.next_start_BT is not None and bool((spans.last_BT.sum(1) > 1).any()):
        raise DataError(
            f"rewards [{shape[0]}] name one reward a row, but a row packs several samples; give rewards "
            f"{list(shape)}, read at the last response token of each sample"
        )
    return rewards.double().unsqueeze(1)


def _raises_at_once(device: torch.device) -> bool:
    """Whether looking at a result costs nothing; elsewhere it would wait for the device."""
    return device.type == "cpu"


def _name_non_finite(
    values_BT: Tensor,
    rewards: Tensor | None,
    spans: ResponseSpans,
    first_token: FirstToken,
    segment_ids: Tensor | None,
) -> None:
    """Point at the value or reward itself rather than at the δ it spoilt."""
    read_BT = spans.inside_BT
    if rewards is not None:
        read_BT = read_BT & ~spans.last_BT
        at_last_BT = terminal_rewards(rewards, spans).expand_as(spans.last_BT)
        require_finite(at_last_BT, spans.last_BT, "reward", segment_ids)
    if first_token == "prompt_value":
        read_BT = read_BT | spans.before_first_BT
    require_finite(values_BT, read_BT, "value", segment_ids)
