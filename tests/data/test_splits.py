"""Held-out shares, and near-duplicate problems on one side only."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.data.near_duplicates import program_signatures
from wmtp_ray.data.prepared import Kinship
from wmtp_ray.data.splits import place
from wmtp_ray.errors import DataError

ALONE = program_signatures([""])[0]


def problem(
    problem_id: str, statement: str = "", split: str | None = None, programs: tuple[int, ...] = ()
) -> Kinship:
    return Kinship(
        problem_id, split, True, program_signatures([statement])[0], np.array(programs, dtype=np.uint64)
    )


def statement(number: int) -> str:
    return " ".join(f"word{number}_{i}" for i in range(40))


@given(st.sets(st.text(max_size=5), max_size=40), st.floats(0, 0.5), st.floats(0, 0.49))
def test_held_out_shares(problem_ids: set[str], valid: float, test: float):
    ordered = [problem(problem_id) for problem_id in sorted(problem_ids)]
    splits = {
        p.problem_id: made.split for p, made in zip(ordered, place(ordered, 0.8, valid, test), strict=True)
    }
    again = place(ordered[::-1], 0.8, valid, test)
    assert splits == {p.problem_id: made.split for p, made in zip(ordered[::-1], again, strict=True)}
    counts = Counter(splits.values())
    assert abs(counts["valid"] - valid * len(problem_ids)) <= 0.5
    assert abs(counts["test"] - test * len(problem_ids)) <= 0.5 or not counts["train"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=25), st.floats(0, 0.5), st.floats(0, 0.4))
def test_no_cluster_is_cut(statements: list[int], valid: float, test: float):
    problems = [problem(f"p{i}", statement(kind)) for i, kind in enumerate(statements)]
    placed = place(problems, 0.8, valid, test)
    for kind in set(statements):
        numbers = [i for i, one in enumerate(statements) if one == kind]
        assert {placed[i].cluster for i in numbers} == {numbers[0]}
        assert len({placed[i].split for i in numbers}) == 1
    counts = Counter(made.split for made in placed)
    assert counts["valid"] <= valid * len(statements) + 0.5 and counts["test"] <= test * len(statements) + 0.5
    assert not any(made.leaks for made in placed)


def test_what_the_source_holds_out_stays_apart():
    placed = place(
        [
            problem("a", statement(1), "train"),
            problem("b", statement(1), "test"),
            problem("c", statement(1)),
            problem("d", statement(2), "train", (7, 8)),
            problem("e", statement(3), "valid", (8,)),
            problem("f", statement(4), "train", (9,)),
            replace(problem("g", statement(1), "train"), stored=False),
        ],
        0.8,
    )
    assert [(p.split, p.cluster, p.leaks) for p in placed] == [
        ("train", 0, "b of test"),
        ("test", 0, ""),
        ("test", 0, ""),
        ("train", 3, "e of valid"),
        ("valid", 3, ""),
        ("train", 5, ""),
        ("train", 6, ""),
    ]


def test_unknown_split_is_refused():
    with pytest.raises(DataError, match="problem a: split 'dev' is none of train, valid, test"):
        place([problem("a", split="dev")], 0.8)
