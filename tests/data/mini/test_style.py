"""Layout must not give the label away. The whole data set is made here, in about two minutes."""

from __future__ import annotations

import pytest

from benchmarks.mini import layout_auroc, make_all
from wmtp_ray.data.records import Problem, Solution
from wmtp_ray.data.sources.mini.style import FEATURES, shorter_wins, style_features, style_table


def problem_of(*programs: tuple[str, bool]) -> Problem:
    return Problem("p", "", tuple(Solution(code, is_correct) for code, is_correct in programs))


def test_features_are_counted():
    found = dict(zip(FEATURES, style_features("def f(x):\n    return x + 10\n"), strict=True))
    assert found["lines"] == 2 and found["digits"] == 2 and found["operators"] == 1
    assert found["mean indentation"] == 2 and found["deepest indentation"] == 4 and found["blank lines"] == 0


def test_shorter_wins_counts_pairs_and_halves_ties():
    first = problem_of(("aa", True), ("aaa", False), ("aa", False))
    second = problem_of(("aaaa", True), ("a", False))
    assert shorter_wins([first, second]) == (1 + 0.5 + 0) / 3


def test_the_classifier_sees_layout_that_does_give_labels_away():
    problems = [problem_of(("x" * (20 + n % 7), True), ("x" * (30 + n % 5), False)) for n in range(40)]
    table = style_table(problems)
    assert layout_auroc(table, table.centred()) > 0.95
    assert shorter_wins(problems) == 1.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_data_set():
    problems = make_all()
    for problem in problems:
        correct = sum(solution.is_correct for solution in problem.solutions)
        assert correct >= 8 and len(problem.solutions) - correct >= 6, problem.problem_id
    table = style_table(problems)
    assert abs(layout_auroc(table, table.features_NF) - 0.5) < 0.05
    assert abs(layout_auroc(table, table.centred()) - 0.5) < 0.05
    assert abs(shorter_wins(problems) - 0.5) < 0.04
