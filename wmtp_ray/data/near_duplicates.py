"""Near-duplicates by MinHash: signatures of texts, and clusters of texts whose sets of n-grams mostly agree.

The signature of a text holds, for each of 64 random orders of all n-grams, the first of its own; two signatures agree
in about J of their places, J = |A ∩ B| / |A ∪ B| (Broder 1997). Candidates agree in a whole band of 4 places, as pairs
of J = 0.8 do in 99.98% of cases and pairs of 0.7 in 98.8%; they are then compared in all places.

Written on numpy for whole problems at a time: 64 passes over all their n-grams, about 30 microseconds a program. The
libraries for it hash one text after the other in Python, or keep an index in memory for all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from wmtp_ray.data.shingles import Shingles, shingles

PLACES = 64
BANDS = 16
SHINGLE_WORDS = 5
_HASHES_AT_ONCE = 1 << 15
"""As many as stay in a core's cache."""
_rng = np.random.Generator(np.random.PCG64(3))
_FACTORS = _rng.integers(0, 2**63, PLACES, dtype=np.uint64) * 2 + 1
_TERMS = _rng.integers(0, 2**64, PLACES, dtype=np.uint64)
_BAND_FACTORS = _rng.integers(0, 2**63, PLACES // BANDS, dtype=np.uint64) * 2 + 1


def program_signatures(texts: Sequence[str]) -> np.ndarray:
    """[N, 64] uint32 signatures of texts by their 5-grams of words; all ones for a text of fewer words."""
    return signatures(shingles(texts, SHINGLE_WORDS))


def signatures(grams: Shingles) -> np.ndarray:
    """[N, 64] uint32; all ones for a text without n-grams."""
    found = np.full((len(grams.counts), PLACES), 0xFFFFFFFF, dtype=np.uint32)
    some = np.flatnonzero(grams.counts)
    if some.size:
        starts = grams.offsets[some]
        at_once = max(_HASHES_AT_ONCE // len(grams.hashes), 1)
        for place in range(0, PLACES, at_once):
            these = slice(place, place + at_once)
            orders = grams.hashes * _FACTORS[these, None] + _TERMS[these, None]
            found[some, these] = (np.minimum.reduceat(orders, starts, axis=1) >> np.uint64(32)).T
    return found


def clusters(signatures_NK: np.ndarray, threshold: float) -> np.ndarray:
    """[N] int64: for each text the number of the first text of its cluster.

    A cluster is connected by pairs whose signatures agree in at least `threshold` of their places. Texts of fewer
    words than an n-gram has are alone.
    """
    return components(len(signatures_NK), similar_pairs(signatures_NK, threshold))


def similar_pairs(signatures_NK: np.ndarray, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs (earlier, later) that agree in at least `threshold` of their places: enough to connect each cluster.

    Of the texts that agree in a band, each is compared with the first of them and with the one before it, not with
    all, so that n equal texts cost 2n comparisons.
    """
    numbers = np.flatnonzero((signatures_NK != 0xFFFFFFFF).any(axis=1))
    rows = signatures_NK[numbers]
    width = PLACES // BANDS
    for band in range(BANDS):
        places = rows[:, band * width : (band + 1) * width].astype(np.uint64)
        keys = (places * _BAND_FACTORS).sum(axis=1)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        same = keys[1:] == keys[:-1]
        if not same.any():
            continue
        later = np.flatnonzero(same) + 1
        first = np.maximum.accumulate(np.where(np.append(True, ~same), np.arange(len(keys)), 0))[later]
        for earlier in (first, later - 1):
            a, b = order[earlier], order[later]
            alike = (rows[a] == rows[b]).mean(axis=1) >= threshold
            yield from zip(numbers[a[alike]].tolist(), numbers[b[alike]].tolist(), strict=True)


def components(count: int, pairs: Iterator[tuple[int, int]]) -> np.ndarray:
    """[count] int64: for each of `count` things the smallest one that `pairs` connect it with."""
    root = list(range(count))

    def find(thing: int) -> int:
        while root[thing] != thing:
            root[thing] = thing = root[root[thing]]
        return thing

    for a, b in pairs:
        a, b = find(a), find(b)
        root[max(a, b)] = min(a, b)
    return np.array([find(thing) for thing in range(count)], dtype=np.int64)
