"""Sampling as properties: labels, partners, bins, caps, quotas; a pure function of fingerprint and section."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.indices import random_index
from wmtp_ray.config.data import SamplingConfig
from wmtp_ray.data.index import ProblemIndex
from wmtp_ray.data.sampling import allot, select
from wmtp_ray.errors import ConfigError, DataError

PROPERTY = settings(deadline=None, max_examples=60)
LENGTH_BINS = (0, 5, 12, 20)
BINS = {"low": (1, 5), "medium": (6, 10), "high": (11, 25)}
BINNED = {"difficulty_bins": {"a": (1, 5)}, "difficulty_weights": {"a": 1.0}}
WEIGHTS = {"low": 0.5, "medium": 0.3, "high": 0.2}


@st.composite
def indices(draw: st.DrawFn) -> ProblemIndex:
    return random_index(draw(st.integers(1, 12)), draw(st.integers(1, 120)), draw(st.integers(0, 10_000)))


def difficulty_of(index: ProblemIndex, rows: np.ndarray) -> np.ndarray:
    return index.difficulty[index.row_problem[rows]]


@PROPERTY
@given(
    indices(),
    st.sampled_from(["pairs", "length_balanced_pairs"]),
    st.none() | st.integers(1, 4),
    st.integers(0, 5),
)
def test_pairs(index: ProblemIndex, solutions: str, cap: int | None, seed: int):
    config = SamplingConfig.model_validate(
        {"solutions": solutions, "max_per_problem": cap, "length_bins": LENGTH_BINS, "seed": seed}
    )
    try:
        rows = select(index, "f", config).rows
    except DataError:
        rows = np.zeros((0, 2), dtype=np.int64)
    correct, incorrect = rows.T
    assert index.row_correct[correct].all() and not index.row_correct[incorrect].any()
    assert (index.row_problem[correct] == index.row_problem[incorrect]).all()
    assert len(set(rows.ravel().tolist())) == rows.size, "a row came twice"
    assert index.in_split("train")[index.row_problem[correct]].all()
    bin_of = np.searchsorted(LENGTH_BINS, index.row_targets, side="right") * (solutions != "pairs")
    assert (bin_of[correct] == bin_of[incorrect]).all()
    # Exactly as many as there can be: min of both sides in every group, capped per problem.
    sides = {label: Counter() for label in (True, False)}
    for row in np.flatnonzero(index.in_split("train")[index.row_problem]):
        sides[bool(index.row_correct[row])][int(index.row_problem[row]), int(bin_of[row])] += 1
    possible = Counter()
    for (problem, length_bin), n in sides[True].items():
        possible[problem] += min(n, sides[False][problem, length_bin])
    expected = {p: n if cap is None else min(n, cap) for p, n in possible.items() if n}
    assert Counter(index.row_problem[correct].tolist()) == expected


@PROPERTY
@given(indices(), st.sampled_from(["correct", "all"]), st.none() | st.integers(1, 4))
def test_single_solutions(index: ProblemIndex, solutions: str, cap: int | None):
    config = SamplingConfig(solutions=solutions, max_per_problem=cap)  # type: ignore[arg-type]
    wanted = index.in_split("train")[index.row_problem] & (index.row_correct | (solutions == "all"))
    if not wanted.any():
        with pytest.raises(DataError, match="no "):
            select(index, "f", config)
        return
    rows = select(index, "f", config).rows[:, 0]
    assert len(set(rows.tolist())) == rows.size
    assert wanted[rows].all()
    counts = np.bincount(index.row_problem[wanted])
    assert rows.size == (counts if cap is None else np.minimum(counts, cap)).sum()


@PROPERTY
@given(indices(), st.integers(1, 60), st.booleans())
def test_difficulty_bins(index: ProblemIndex, wanted: int, allow_fewer: bool):
    config = SamplingConfig(
        solutions="all",
        num_samples=wanted,
        difficulty_bins=BINS,
        difficulty_weights=WEIGHTS,
        allow_fewer=allow_fewer,
    )
    candidates = np.flatnonzero(index.in_split("train")[index.row_problem])
    difficulty = difficulty_of(index, candidates)
    available = {
        name: int(((difficulty >= lo) & (difficulty <= hi)).sum()) for name, (lo, hi) in BINS.items()
    }
    total = sum(available.values())
    if not total:
        with pytest.raises(DataError):
            select(index, "f", config)
        return
    if total < wanted and not allow_fewer:
        with pytest.raises(ConfigError, match=f"only {total} "):
            select(index, "f", config)
        return
    selection = select(index, "f", config)
    report = selection.report
    assert len(selection) == report.selected == min(wanted, total)
    assert report.available == candidates.size
    assert report.outside_bins == candidates.size - total
    for part in report.bins:
        low, high = BINS[part.name]
        taken = difficulty_of(index, selection.rows[:, 0])
        assert (
            ((taken >= low) & (taken <= high)).sum()
            == part.selected
            <= part.available
            == available[part.name]
        )
        # A bin gets less than its share only when it is exhausted.
        assert part.selected >= min(part.requested, part.available)


@PROPERTY
@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 400)), min_size=1, max_size=6),
)
def test_allot(total: int, bins: list[tuple[float, int]]):
    weights, available = (np.array(column) for column in zip(*bins, strict=True))
    taken = allot(total, weights, available)
    assert (taken <= available).all() and (taken >= 0).all()
    assert taken.sum() == min(total, available[weights > 0].sum())
    assert not taken[weights == 0].any()


def test_allot_example():
    assert allot(10, np.array([0.5, 0.3, 0.2]), np.array([2, 100, 100])).tolist() == [2, 5, 3]
    assert allot(7, np.array([1.0, 1.0, 1.0]), np.array([9, 9, 9])).tolist() == [3, 2, 2]


@PROPERTY
@given(indices(), st.none() | st.integers(1, 60), st.sampled_from(["all", "pairs"]))
def test_every_stage_of_a_curriculum_is_what_its_weights_alone_would_draw(
    index: ProblemIndex, wanted: int | None, solutions: str
):
    """Labels, quotas and counts of a stage are those of a section that has its weights from the start."""
    weights = ({"low": 1, "medium": 0, "high": 0}, {"low": 1, "medium": 1, "high": 1}, WEIGHTS)
    section = {
        "solutions": solutions,
        "num_samples": wanted,
        "difficulty_bins": {"low": (800, 1200), "medium": (1300, 2000), "high": (2100, 3500)},
        "difficulty_by": "cf_rating",
        "allow_fewer": True,
    }
    stages = [{"from_epoch": e, "difficulty_weights": w} for e, w in ((1, weights[1]), (3, weights[2]))]
    whole = SamplingConfig.model_validate(section | {"difficulty_weights": weights[0], "curriculum": stages})
    alone = [SamplingConfig.model_validate(section | {"difficulty_weights": w}) for w in weights]
    try:
        selection = select(index, "f", whole)
    except DataError:
        assert any(_is_empty(index, config) for config in alone)
        return
    assert [stage.from_epoch for stage in selection.stages] == [0, 1, 3]
    assert [selection.of_epoch(e) is selection.stages[s].samples for e, s in enumerate((0, 1, 1, 2, 2))]
    assert len(set(selection.rows.ravel().tolist())) == selection.rows.size, "a row came twice"
    used = np.unique(np.concatenate([stage.samples for stage in selection.stages]))
    assert used.tolist() == list(range(len(selection)))
    for stage, config in zip(selection.stages, alone, strict=True):
        assert stage.report == select(index, "f", config).report
        assert stage.report.selected == len(stage.samples) == sum(b.selected for b in stage.report.bins)
        rating = index.cf_rating[index.row_problem[selection.rows[stage.samples, 0]]]
        counted = [
            ((rating >= low) & (rating <= high)).sum() for low, high in section["difficulty_bins"].values()
        ]
        assert counted == [b.selected for b in stage.report.bins]


def _is_empty(index: ProblemIndex, config: SamplingConfig) -> bool:
    try:
        select(index, "f", config)
    except DataError:
        return True
    return False


def test_a_huge_problem_and_one_problem_alone():
    """50,000 solutions of one problem, beside others or alone: pairs never leave it, caps hold, nothing is slow."""
    for problems in (1, 3):
        index = replace(
            random_index(problems, 50_000, longest=400),
            row_problem=np.sort(np.r_[np.zeros(49_000, np.int32), np.full(1000, problems - 1, np.int32)]),
            split=np.zeros(problems, dtype=np.int8),
        )
        rows = select(index, "f", SamplingConfig(solutions="length_balanced_pairs")).rows
        assert len(rows) > 20_000 and len(np.unique(rows)) == rows.size
        assert (index.row_problem[rows[:, 0]] == index.row_problem[rows[:, 1]]).all()
        capped = select(index, "f", SamplingConfig(solutions="pairs", max_per_problem=7)).rows
        assert np.bincount(index.row_problem[capped[:, 0]]).max() == 7


def test_length_bins_without_any_row_are_no_hindrance():
    index = random_index(20, 400)
    some = SamplingConfig(solutions="length_balanced_pairs", length_bins=(0, 10))
    more = SamplingConfig(solutions="length_balanced_pairs", length_bins=(0, 10, 5000, 6000))
    assert len(select(index, "f", some)) == len(select(index, "f", more)) > 0
    with pytest.raises(DataError, match="no pairs of the same length bin"):
        select(index, "f", SamplingConfig(solutions="length_balanced_pairs", length_bins=(5000,)))


def test_same_inputs_same_rows_and_others_differ():
    index = random_index(20, 400)
    config = SamplingConfig(solutions="pairs", num_samples=40)
    rows = select(index, "f", config).rows
    assert (select(index, "f", config).rows == rows).all()
    assert (select(index, "g", config).rows != rows).any()
    assert (select(index, "f", config.model_copy(update={"seed": 1})).rows != rows).any()


def test_known_rows():
    """The rows themselves, so that a new NumPy or another machine cannot change them unnoticed."""
    index = random_index(20, 400)
    rows = select(index, "f", SamplingConfig(solutions="length_balanced_pairs", num_samples=3)).rows
    assert rows.tolist() == [[113, 118], [387, 379], [200, 183]]


def test_hash_seed_does_not_matter():
    code = (
        "from tests.data.indices import random_index;from wmtp_ray.config.data import SamplingConfig;"
        "from wmtp_ray.data.sampling import select;"
        "print(select(random_index(9,99),'f',SamplingConfig(solutions='all')).rows.ravel().tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length_bins": (0, 0)}, "length_bins"),
        ({"difficulty_bins": {"a": (1, 2)}}, "belong together"),
        ({"difficulty_bins": {"a": (1, 2)}, "difficulty_weights": {"b": 1.0}}, "same bins"),
        (
            {"difficulty_bins": {"a": (1, 5), "b": (5, 6)}, "difficulty_weights": {"a": 1.0, "b": 1.0}},
            "overlaps",
        ),
        ({"difficulty_bins": {"a": (1, 5)}, "difficulty_weights": {"a": 0.0}}, "all 0"),
        (BINNED | {"curriculum": [{"from_epoch": 1, "difficulty_weights": {"b": 1.0}}]}, "same bins"),
        (
            BINNED | {"curriculum": [{"from_epoch": 1, "difficulty_weights": {"a": 0}}]},
            r"curriculum\[0\].*all 0",
        ),
        (BINNED | {"curriculum": [{"from_epoch": 1, "difficulty_weights": {"a": 1}}] * 2}, "must increase"),
        (BINNED | {"curriculum": [{"from_epoch": 0, "difficulty_weights": {"a": 1}}]}, "greater than 0"),
        ({"curriculum": [{"from_epoch": 1, "difficulty_weights": {}}]}, "curriculum is about bins"),
        ({"difficulty_by": "cf_rating"}, "difficulty_by is about bins"),
        ({"num_samples": 0}, "greater than 0"),
        ({"num_samples": True}, "num_samples = true is neither"),
        ({"num_samples": "many"}, "valid integer"),
        ({"length_bins": "0, 100"}, "valid tuple"),
        ({"difficulty_bins": {"a": 3}, "difficulty_weights": {"a": 1}}, "valid tuple"),
        (BINNED | {"difficulty_weights": {"a": float("inf")}}, "finite|less than"),
    ],
)
def test_contradictions_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SamplingConfig(solutions="pairs", **change)
