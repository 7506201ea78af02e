"""Texts as sets of hashed n-grams of words: what near-duplicates and contamination are found by.

A word is a run of ASCII letters, digits and underscores (case folded) or of bytes above ASCII; white space and
punctuation only separate. Hashes are 64-bit and the same in every process. All texts of a call go through numpy
together.

    "for i in x:"  ─► words [for, i, in, x] ─► 3-grams {(for, i, in), (i, in, x)}
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_SEPARATED = bytes(
    byte if byte >= 128 or chr(byte).isalnum() or byte == ord("_") else ord(" ") for byte in range(256)
).lower()
_MAX_WORDS = 1 << 20
_BY_PLACE = np.random.Generator(np.random.PCG64(2)).integers(0, 2**63, 256, dtype=np.uint64) * 2 + 1


@dataclass(frozen=True)
class Shingles:
    """The hashed n-grams of some texts, those of text i at `hashes[offsets[i]:offsets[i + 1]]`, in their order."""

    hashes: np.ndarray
    """[G] uint64"""
    offsets: np.ndarray
    """[texts + 1] int64"""

    @cached_property
    def counts(self) -> np.ndarray:
        """[texts] int64, n-grams of each text."""
        return np.diff(self.offsets)

    @cached_property
    def text_of(self) -> np.ndarray:
        """[G] int64, the text of each n-gram."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


class _WordHashes(dict[bytes, int]):
    """64-bit hash of a word, kept: most words of a text were met before."""

    def __missing__(self, word: bytes) -> int:
        if len(self) >= _MAX_WORDS:
            self.clear()
        self[word] = found = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
        return found


_hash_of = _WordHashes()


def words(text: str) -> list[bytes]:
    """The words of a text, in order.

    >>> words("print(A_1 + é)") == [b"print", b"a_1", "é".encode()]
    True
    """
    return text.encode("utf-8", "surrogatepass").translate(_SEPARATED).split()


def shingles(texts: Sequence[str], n: int) -> Shingles:
    """The n-grams of each text (n at most 256); a text of fewer than `n` words has none."""
    hashes: list[int] = []
    word_offsets = [0]
    for text in texts:
        hashes.extend(map(_hash_of.__getitem__, words(text)))
        word_offsets.append(len(hashes))
    hashed = np.array(hashes, dtype=np.uint64)
    first_words = np.array(word_offsets, dtype=np.int64)
    counts = np.maximum(np.diff(first_words) - (n - 1), 0)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    grams = np.zeros(max(len(hashed) - (n - 1), 0), dtype=np.uint64)
    for place in range(n):
        grams += _BY_PLACE[place] * hashed[place : place + len(grams)]
    # The windows of a text start at all its words but the last n - 1, whose windows would run into the next text.
    starts = np.arange(offsets[-1]) + np.repeat(first_words[:-1] - offsets[:-1], counts)
    return Shingles(_mixed(grams[starts]), offsets)


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of the hash (the finaliser of SplitMix64, Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
