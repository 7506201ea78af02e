"""Contrasts over seeds and problems: exact where nothing differs, honest where something does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.contrasts import SEEDS_TO_JUDGE, Contrast, contrast, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(P_VALUES)
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True)) and max(adjusted) <= 1
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    assert min(adjusted) == min(1.0, len(p_values) * min(p_values))


@given(P_VALUES, st.floats(0, 1))
def test_a_further_contrast_makes_none_of_the_others_surer(p_values: list[float], more: float) -> None:
    assert all(b >= a for a, b in zip(holm(p_values), holm([*p_values, more]), strict=False))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]) == [0.2] and holm([]) == []


@pytest.mark.parametrize("seeds", [1, 3, 6])
def test_identical_arms_differ_by_exactly_nothing(seeds: int) -> None:
    numbers_SP = np.random.default_rng(0).normal(size=(seeds, 12))
    same = contrast("a", "b", numbers_SP, numbers_SP.copy())
    assert (same.estimate.mean, same.estimate.low, same.estimate.high) == (0.0, 0.0, 0.0)
    assert same.p_value == 1.0 and same.indistinct and set(same.by_seed) == {0.0}
    assert same.judgement == ("too few seeds" if seeds < SEEDS_TO_JUDGE else "no difference found")


def world(generator: np.random.Generator, seeds: int, effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Two arms [seeds, 30] whose true difference is `effect`, with spread over seeds, problems and both."""
    problems = 30
    shared_SP = generator.normal(size=(1, problems)) * 3 + generator.normal(size=(seeds, 1))
    spread_SP = (
        generator.normal(size=(seeds, 1)) * 0.05
        + generator.normal(size=(1, problems)) * 0.2
        + generator.normal(size=(seeds, problems)) * 0.2
    )
    return shared_SP + effect + spread_SP, shared_SP


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_where_nothing_differs_the_interval_covers_zero_as_often_as_it_says(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    found = [contrast("a", "b", *world(generator, seeds, 0.0), resamples=400) for _ in range(200)]
    missed = sum(c.estimate.excludes_zero for c in found)
    assert missed <= 18  # 5% of 200 are 10; more than 18 happen in one of 200 runs
    assert all((c.p_value < 0.05) == c.estimate.excludes_zero for c in found)


@pytest.mark.parametrize("family", [1, 6])
@pytest.mark.parametrize("seeds", [5, 10])
def test_a_detectable_difference_is_found_four_times_in_five_or_more(seeds: int, family: int) -> None:
    """Also as the only true difference among those that are corrected together."""
    generator = np.random.default_rng(seeds)

    def found(effect: float) -> Contrast:
        return contrast("a", "b", *world(generator, seeds, effect), family=family, resamples=400)

    typical = float(np.median([found(0.0).detectable for _ in range(40)]))
    p_values = [holm([found(typical).p_value, *[1.0] * (family - 1)])[0] for _ in range(100)]
    assert sum(p < 0.05 for p in p_values) >= 70


def test_with_too_few_seeds_nothing_is_detectable() -> None:
    assert math.isnan(contrast("a", "b", *world(np.random.default_rng(0), 4, -0.6)).detectable)


def test_a_planted_difference_is_found_with_enough_seeds_and_named_with_none_fewer() -> None:
    generator = np.random.default_rng(0)
    many, few = (contrast("a", "b", *world(generator, seeds, -0.6)) for seeds in (5, 4))
    assert many.judgement == "differs" and many.estimate.high < 0
    assert few.judgement == "too few seeds"
    assert many.by_seed == pytest.approx([-0.6] * 5, abs=0.3)


def test_a_shift_of_both_arms_changes_nothing_and_a_swap_the_sign() -> None:
    treated_SP, reference_SP = world(np.random.default_rng(1), 5, 0.1)
    plain = contrast("a", "b", treated_SP, reference_SP)
    shifted = contrast("a", "b", treated_SP + 7, reference_SP + 7)
    swapped = contrast("b", "a", reference_SP, treated_SP)
    assert shifted.estimate.mean == pytest.approx(plain.estimate.mean)
    assert shifted.detectable == pytest.approx(plain.detectable)
    assert (swapped.estimate.low, swapped.estimate.high) == pytest.approx(
        (-plain.estimate.high, -plain.estimate.low)
    )


def test_other_problems_or_a_broken_number_are_refused() -> None:
    with pytest.raises(DataError, match="compare the same ones"):
        contrast("a", "b", np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(DataError, match="finite numbers"):
        contrast("a", "b", np.full((1, 2), np.nan), np.zeros((1, 2)))
