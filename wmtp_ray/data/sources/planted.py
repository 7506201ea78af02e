"""A planted task: programs in which only known tokens carry information about the outcome.

A program is a row of words. Most are noise, drawn at random. A few are markers `m0` ... `m3`; the word after a marker
says whether it is right: each marker has one right partner among `p0` ... `p3`. A correct program has only right
partners; in an incorrect one each partner is wrong with probability 0.7, and at least one is. So the worth of every
token is known, and a method that finds out which tokens matter has something to find.

Example: with m0 → p1 and m3 → p2, `f5 m0 p1 f9 m3 p2 f1` is correct, `f5 m0 p1 f9 m3 p0 f1` is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wmtp_ray.data.keyed import keyed_bits
from wmtp_ray.data.records import Problem, Solution

NOISE = tuple(f"f{i}" for i in range(16))
MARKERS = tuple(f"m{i}" for i in range(4))
PARTNERS = tuple(f"p{i}" for i in range(4))
WORDS = NOISE + MARKERS + PARTNERS
WRONG_SHARE = 0.7
HELD_OUT = 5
"""Every fifth problem is `valid`."""


def right_partner(marker: str) -> str:
    """The partner that makes a marker right."""
    return PARTNERS[(3 * MARKERS.index(marker) + 1) % len(PARTNERS)]


def worth(words: list[str]) -> np.ndarray:
    """[words] float64: 1 at a right partner, -1 at a wrong one, 0 at every word that says nothing.

    Example: `m0 p1 f3 m3 p0` → [0 1 0 0 -1].
    """
    before = ["", *words[:-1]]
    return np.array(
        [
            0.0 if marker not in MARKERS else 1.0 if word == right_partner(marker) else -1.0
            for marker, word in zip(before, words, strict=True)
        ]
    )


@dataclass(frozen=True)
class PlantedSource:
    """`problems` problems, each with as many correct as incorrect programs. Implements `Source`."""

    num_problems: int = 600
    solutions_per_side: int = 2
    words: int = 16
    markers: int = 3
    """Markers in each program."""
    seed: int = 0

    def partitions(self) -> list[int]:
        """The problems' numbers."""
        return list(range(self.num_problems))

    def problems(self, partition: int) -> Iterator[Problem]:
        """The one problem of that number."""
        random = np.random.Generator(np.random.Philox(int(keyed_bits(1, "planted", self.seed, partition)[0])))
        statement = " ".join(random.choice(NOISE, 12))
        solutions = tuple(
            Solution(self._program(random, correct), correct, provenance="planted")
            for correct in (True, False)
            for _ in range(self.solutions_per_side)
        )
        split = "valid" if partition % HELD_OUT == 0 else "train"
        yield Problem(f"planted/{self.seed}/{partition}", statement, solutions, split=split)

    def _program(self, random: np.random.Generator, correct: bool) -> str:
        wrong = random.random(self.markers) < WRONG_SHARE
        wrong[random.integers(self.markers)] = True
        slots = self.words - self.markers
        marked = set(random.choice(slots, self.markers, replace=False).tolist())
        words: list[str] = []
        for slot in range(slots):
            if slot not in marked:
                words.append(str(random.choice(NOISE)))
                continue
            marker = str(random.choice(MARKERS))
            right = right_partner(marker)
            is_wrong = not correct and wrong[sum(word in MARKERS for word in words)]
            others = [partner for partner in PARTNERS if partner != right]
            words += [marker, str(random.choice(others)) if is_wrong else right]
        return " ".join(words)
