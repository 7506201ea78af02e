"""How much layout alone tells of a label. It should tell nothing: 0.5 in both figures.

A critic learns what its data hold; if correct programs were shorter, or had more blank lines, it would learn that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from wmtp_ray.data.records import Problem

FEATURES = (
    "characters",
    "lines",
    "blank lines",
    "mean line length",
    "longest line",
    "mean indentation",
    "deepest indentation",
    "spaces",
    "parentheses",
    "brackets",
    "commas",
    "colons",
    "underscores",
    "digits",
    "operators",
    "quotes",
)


@dataclass(frozen=True)
class StyleTable:
    """Layout features of every program, with what they are to be compared to.

    Attributes:
        features_NF: [programs, features] float64, one column per entry of `FEATURES`.
        is_correct_N: [programs] bool.
        problem_N: [programs] int64, the number of the program's problem.
    """

    features_NF: np.ndarray
    is_correct_N: np.ndarray
    problem_N: np.ndarray

    def centred(self) -> np.ndarray:
        """[N, F]: features minus their mean over the problem's programs. Pairs of one problem differ by these alone."""
        centred_NF = self.features_NF.copy()
        for problem in np.unique(self.problem_N):
            rows = self.problem_N == problem
            centred_NF[rows] -= centred_NF[rows].mean(axis=0)
        return centred_NF


def style_features(code: str) -> list[float]:
    """What can be seen of a program without reading it, in the order of `FEATURES`."""
    lines = code.splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    return [
        len(code),
        len(lines),
        sum(not line.strip() for line in lines),
        len(code) / max(len(lines), 1),
        max(map(len, lines), default=0),
        sum(indents) / max(len(indents), 1),
        max(indents, default=0),
        code.count(" "),
        code.count("("),
        code.count("["),
        code.count(","),
        code.count(":"),
        code.count("_"),
        sum(character.isdigit() for character in code),
        sum(character in "+-*/%<>=!&|^~" for character in code),
        sum(character in "'\"" for character in code),
    ]


def style_table(problems: Iterable[Problem]) -> StyleTable:
    """The layout features of all programs of `problems`."""
    rows = [(number, solution) for number, problem in enumerate(problems) for solution in problem.solutions]
    return StyleTable(
        np.array([style_features(solution.code) for _, solution in rows], dtype=np.float64),
        np.array([solution.is_correct for _, solution in rows], dtype=bool),
        np.array([number for number, _ in rows], dtype=np.int64),
    )


def shorter_wins(problems: Iterable[Problem], length: Callable[[str], int] = len) -> float:
    """The share of (correct, incorrect) pairs of one problem whose correct program is the shorter one.

    A tie counts half. `length` measures a program; pass a tokenizer's count to measure tokens.
    """
    wins, pairs = 0.0, 0
    for problem in problems:
        right = [length(solution.code) for solution in problem.solutions if solution.is_correct]
        wrong = [length(solution.code) for solution in problem.solutions if not solution.is_correct]
        wins += sum(float(r < w) + 0.5 * (r == w) for r in right for w in wrong)
        pairs += len(right) * len(wrong)
    return wins / pairs if pairs else float("nan")
