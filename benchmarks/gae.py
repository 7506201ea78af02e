"""Generalised advantages at B=12, T=2048 against the fastest exact recursion at hand and against the usual
loop.

`compute_gae_advantage` does everything: checks, float64, TD errors, spans, recursion, masking.
`scipy.signal.lfilter` does the recursion alone, on float64 TD errors that are ready. The token loop is what
most trainers write: one vector operation over the rows for each token, from the right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from scipy.signal import lfilter
from torch import Tensor

from benchmarks.figure import Figure
from wmtp_ray.value_weighting import compute_gae_advantage

B, T, LAMBDA = 12, 2048, 0.95


def fastest(contestants: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of each contestant's fastest run; they take turns, so that a busy machine is busy for all of
    them.
    """
    best = [float("inf")] * len(contestants)
    for _ in range(repeats):
        for i, run in enumerate(contestants):
            start = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def token_loop(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """A_t = δ_t + λA_{t+1} token by token, for one prompt and one unbroken response per row."""
    advantages_BT = torch.zeros_like(values_BT)
    following_B = torch.zeros(values_BT.shape[0])
    for t in range(values_BT.shape[1] - 1, 0, -1):
        following_B = (values_BT[:, t] - values_BT[:, t - 1] + LAMBDA * following_B) * mask_BT[:, t]
        advantages_BT[:, t] = following_B
    return advantages_BT


def figures() -> Iterator[Figure]:
    generator = torch.Generator().manual_seed(0)
    values_BT = torch.randn(B, T, generator=generator)
    mask_BT = torch.zeros(B, T, dtype=torch.bool)
    mask_BT[:, T // 4 :] = True
    segment_ids_BT = (torch.arange(T) // (T // 6)).expand(B, T).contiguous()
    packed_mask_BT = torch.arange(T).expand(B, T) % (T // 6) >= T // 24
    deltas_BT = torch.randn(B, T, generator=generator, dtype=torch.float64).numpy()

    def ours() -> Tensor:
        return compute_gae_advantage(values_BT, None, mask_BT, lam=LAMBDA)

    def packed() -> Tensor:
        return compute_gae_advantage(values_BT, None, packed_mask_BT, lam=LAMBDA, segment_ids=segment_ids_BT)

    def scipy_filter() -> object:
        return lfilter([1.0], [1.0, -LAMBDA], deltas_BT[:, ::-1], axis=1)

    torch.testing.assert_close(ours(), token_loop(values_BT, mask_BT), atol=1e-4, rtol=1e-4)
    packed()
    ours_s, packed_s, filter_s = fastest([ours, packed, scipy_filter], repeats=500)
    (loop_s,) = fastest([lambda: token_loop(values_BT, mask_BT)], repeats=5)
    yield Figure(
        "gae_vs_lfilter",
        ours_s / filter_s,
        "x time",
        counterpart=f"scipy.signal.lfilter {filter_s * 1e3:.3f} ms, ours {ours_s * 1e3:.3f} ms",
        target="<= 3",
    )
    yield Figure(
        "gae_packed_vs_lfilter",
        packed_s / filter_s,
        "x time",
        counterpart=f"scipy.signal.lfilter without segments {filter_s * 1e3:.3f} ms, six samples a row",
    )
    yield Figure(
        "gae_vs_token_loop",
        loop_s / ours_s,
        "x faster",
        counterpart=f"torch loop over {T} tokens {loop_s * 1e3:.1f} ms",
        target="> 1",
    )
