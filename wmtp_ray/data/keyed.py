"""Random numbers that depend on nothing but a key: not on the process, the hash seed or NumPy's version.

Only raw bits are taken from NumPy (their streams are guaranteed to stay); orders come from a stable sort of
them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np


def keyed_bits(n: int, *key: Any) -> np.ndarray:
    """[n] uint64 of Philox, seeded with the SHA-256 of `key` (JSON values)."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, ensure_ascii=True).encode()).digest()
    philox = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8"))
    return philox.random_raw(n) if n else np.zeros(0, dtype=np.uint64)


def keyed_order(n: int, *key: Any) -> np.ndarray:
    """[n] int64: a random order of 0 .. n-1."""
    return np.argsort(keyed_bits(n, *key), kind="stable")


def rank_in_group(sorted_groups: np.ndarray) -> np.ndarray:
    """[n] int64: place of each element within its run of equal values. [3 3 5 5 5] -> [0 1 0 1 2]."""
    if not sorted_groups.size:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, sorted_groups[1:] != sorted_groups[:-1]])
    lengths = np.diff(np.r_[starts, sorted_groups.size])
    return np.arange(sorted_groups.size) - np.repeat(starts, lengths)
