"""Micro-batches of one step that any number of ranks, 1 to n, can share evenly.

Of W ranks, rank r has the micro-batches m = r, r + W, r + 2W, ... Where all have the same size, 8 of them keep 3 ranks
waiting for 1/9 of the time and 7 ranks for 3/7. Sizes that fall off towards both ends of the step can serve every W:

    sizes 1 2 2 1:   W = 2: 1+2 | 2+1     W = 3: 1+1 | 2 | 2

(They are the coefficients of (1 + x)(1 + x + x^2), zero at every second and third root of unity but 1; any sizes
whose polynomial is, serve.) Real samples come in lumps, so we minimise instead, over where each sample goes,

    sum over W = 1..n of W^2 sum over r of L_Wr^2,    L_Wr = tokens of rank r of W

which is, but for a constant, the squared deviation of the ranks' shares from 1/W. Everything is in integers, so that
every machine finds the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FILL = 2, 3
"""Share of the tokens that its micro-batches could hold which a step takes, so that their sizes can differ."""
_EXCHANGES, _TRIES, _CANDIDATES = 64, 32, 256


def rank_kernel(micro_batches: int, ranks: int) -> np.ndarray:
    """[M, M] int64 K with L'KL = the sum above, for tokens L of the micro-batches, plus L'L, so that none stays empty:
    the sum of W^2 over those W that give both micro-batches to one rank."""
    apart = np.subtract.outer(np.arange(micro_batches), np.arange(micro_batches))
    return sum((W * W * (apart % W == 0) for W in range(1, ranks + 1)), np.eye(micro_batches, dtype=np.int64))


def evened(
    shares: list[list[int]],
    totals: np.ndarray,
    kernel: np.ndarray,
    capacity: int,
    fits: Callable[[list[int]], bool],
) -> list[list[int]]:
    """Exchange samples between micro-batches, always the exchange that helps most, until none helps or enough are made.

    `shares[m]` are the samples of micro-batch m, `totals` the tokens of every sample, `capacity` those that a
    micro-batch can hold; `fits` says whether some samples of no more tokens fit into its rows. Where a step has many
    samples, the shortest are exchanged: the others lie well enough.
    """
    home = {sample: m for m, share in enumerate(shares) for sample in share}
    samples = sorted(home, key=lambda sample: (totals[sample], sample))[:_CANDIDATES]
    # Behind them, a place without tokens in every micro-batch: a sample exchanged for one just moves.
    at = np.array([*(home[sample] for sample in samples), *range(len(shares))])
    sizes = np.append(totals[samples], np.zeros(len(shares), dtype=np.int64))
    moved = np.maximum(np.subtract.outer(sizes, sizes), 0)  # [u, v]: from where u is to where v is
    bend = moved**2 * (kernel[0, 0] - kernel[at][:, at])
    shares = [list(share) for share in shares]
    tokens = np.array([totals[share].sum() for share in shares], dtype=np.int64)
    for _ in range(_EXCHANGES):
        slope = (kernel @ tokens)[at]
        change = moved * (slope - slope[:, None]) + bend
        change[moved + tokens[at] > capacity] = 0
        best = _best(change, at, samples, shares, fits)
        if best is None:
            break
        u, v, shares[at[u]], shares[at[v]] = best
        tokens[at[u]] -= moved[u, v]
        tokens[at[v]] += moved[u, v]
        at[u], at[v] = (at[v], at[u]) if v < len(samples) else (at[v], at[v])
        for i in (u, v):
            bend[i] = moved[i] ** 2 * (kernel[0, 0] - kernel[at[i], at])
            bend[:, i] = moved[:, i] ** 2 * (kernel[0, 0] - kernel[at[i], at])
    return shares


def _best(
    change: np.ndarray,
    at: np.ndarray,
    samples: list[int],
    shares: list[list[int]],
    fits: Callable[[list[int]], bool],
) -> tuple[int, int, list[int], list[int]] | None:
    """The exchange (u, v) with the most negative change that fits and leaves no micro-batch empty, with what is then
    where u was, and where v was."""
    for _ in range(_TRIES):
        u, v = divmod(int(change.argmin()), len(at))
        if change[u, v] >= 0:
            return None
        come = samples[v : v + 1]  # nothing where v is a place without tokens
        less = [s for s in shares[at[u]] if s != samples[u]] + come
        more = [s for s in shares[at[v]] if s not in come] + [samples[u]]
        if less and fits(less) and fits(more):
            return u, v, less, more
        change[u, v] = 0
    return None
