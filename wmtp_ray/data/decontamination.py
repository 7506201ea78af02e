"""Which texts contain a text of an evaluation set.

A text contains another one when it holds at least `min_share` of its n-grams of words, as Chowdhery et al. (2022, PaLM,
appendix) count 8-grams. One shared n-gram would not do: every contest statement begins "The first line contains".
Statements of fewer than 2n words must be contained whole, since "the perimeter of a triangle" is not "of a square";
solutions that short, such as Euclid's algorithm, are idioms and are not looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wmtp_ray.data.records import Problem, Reject
from wmtp_ray.data.shingles import shingles, words
from wmtp_ray.errors import DataError


@dataclass(frozen=True)
class EvaluationTexts:
    """The n-grams of evaluation sets: of each problem its statement and its first correct solution. Picklable."""

    ngram: int
    names: tuple[str, ...]
    """[T], like `humaneval HumanEval/3 solution`"""
    counts: np.ndarray
    """[T] int64, different n-grams of each text"""
    wanted: np.ndarray
    """[T] float64, the share of them that makes a text contained"""
    hashes: np.ndarray
    """[G] uint64, increasing; an n-gram stands once for each text that has it"""
    text_of: np.ndarray
    """[G] int64"""

    @classmethod
    def of(
        cls, sets: Mapping[str, Iterable[Problem | Reject]], *, ngram: int = 8, min_share: float = 0.5
    ) -> EvaluationTexts:
        """From the problems of named sets. Texts of fewer than `ngram` words are not looked for. `DataError` for a set
        in which nothing else is left, or a row of which is no problem."""
        names: list[str] = []
        texts: list[str] = []
        for name, problems in sets.items():
            before = len(texts)
            for problem in problems:
                if isinstance(problem, Reject):
                    problem.require_of_a_solution(f"decontaminate.against.{name}")
                    continue
                solution = next((s.code for s in problem.solutions if s.is_correct), "")
                if len(words(solution)) < 2 * ngram:
                    solution = ""
                names += [f"{name} {problem.problem_id} {part}" for part in ("statement", "solution")]
                texts += [problem.instruction, solution]
            if not any(shingles(texts[before:], ngram).counts):
                raise DataError(
                    f"evaluation set {name} has no text of {ngram} words, so nothing can be compared with it; "
                    f"correct decontaminate.against.{name} or lower decontaminate.ngram"
                )
        grams = shingles(texts, ngram)
        pairs = np.unique(np.stack([grams.hashes, grams.text_of.astype(np.uint64)]), axis=1)
        return cls(
            ngram=ngram,
            names=tuple(names),
            counts=np.bincount(pairs[1].astype(np.int64), minlength=len(texts)),
            wanted=np.where(grams.counts > ngram, min_share, 1.0),
            hashes=pairs[0],
            text_of=pairs[1].astype(np.int64),
        )

    def found_in(self, texts: Sequence[str]) -> list[str | None]:
        """For each text the evaluation text it contains, with the share of its n-grams; None where it contains none."""
        grams = shingles(texts, self.ngram)
        first = np.searchsorted(self.hashes, grams.hashes, "left")
        last = np.searchsorted(self.hashes, grams.hashes, "right")
        found: list[str | None] = [None] * len(texts)
        some = np.flatnonzero(last > first)
        if not some.size:
            return found
        hits = np.concatenate([np.arange(first[g], last[g]) for g in some])
        owners = np.repeat(grams.text_of[some], (last - first)[some])
        once = np.unique(
            np.stack([owners, hits]), axis=1
        )  # an n-gram counts once, however often a text repeats it
        pairs, shared = np.unique(once[0] * len(self.names) + self.text_of[once[1]], return_counts=True)
        ours, theirs = np.divmod(pairs, len(self.names))
        shares = shared / self.counts[theirs]
        for i in np.argsort(shares, kind="stable"):
            if shares[i] >= self.wanted[theirs[i]]:
                share = f"{shares[i]:.0%} of its {self.ngram}-grams"
                found[int(ours[i])] = f"{self.names[theirs[i]]}: {share}"
        return found
