from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter

import pytest

from wmtp_ray.data.sources.mini import MiniSource
from wmtp_ray.data.sources.mini.problems import load_families
from wmtp_ray.data.sources.mini.source import HELD_OUT_SHARE, assign_splits
from wmtp_ray.errors import DataError

FAMILY = "characters"
# What a family's labelling starts from, and everything that comes out for one of its problems.
PRINT_DIGEST = """
import hashlib, random, sys
from wmtp_ray.data.sources.mini import MiniSource
from wmtp_ray.data.sources.mini.cases import make_tests
from wmtp_ray.data.sources.mini.mutation import mutants
from wmtp_ray.data.sources.mini.problems import load_families
from wmtp_ray.data.sources.mini.rewrites import variants
from wmtp_ray.data.sources.mini.source import assign_splits

family = sys.argv[1]
problems = load_families()[family]
parts = [repr(assign_splits(family, problems))]
for problem in problems[:4]:
    tests, further, signature = make_tests(problem)
    found = variants(problem.references, signature, 10, random.Random(problem.name))
    wrong = [mutant for variant in found[:2] for mutant in mutants(variant.text, signature, random.Random(1))]
    parts += [repr(tests), repr(further), repr(found), repr(wrong)]
source = MiniSource((family,))
parts.append(repr(list(source.problems(source.partitions()[0]))))
print(hashlib.sha256("".join(parts).encode()).hexdigest())
"""


def test_size():
    families = load_families()
    assert len(families) >= 12
    assert len(MiniSource().partitions()) >= 120
    for problems in families.values():
        for problem in problems:
            assert len(problem.references) >= 2 and len(problem.cases) >= 6


def test_a_partition_is_one_problem_with_all_that_is_known_of_it():
    source = pickle.loads(pickle.dumps(MiniSource((FAMILY,))))
    names = source.partitions()
    assert names == [problem.name for problem in load_families()[FAMILY]]
    [problem] = source.problems(names[1])
    assert problem.problem_id == f"mini/{FAMILY}/{names[1]}"
    assert problem.tags == (FAMILY,)
    assert 1 <= problem.difficulty <= 5
    assert problem.split == assign_splits(FAMILY, load_families()[FAMILY])[names[1]]
    assert names[1] in problem.instruction
    assert (
        problem.tests is not None and problem.tests.kind == "call" and problem.tests.entry_point == names[1]
    )
    assert len(problem.tests.cases) > 6
    assert {solution.is_correct for solution in problem.solutions} == {True, False}


def test_splits_keep_their_shares():
    counts: Counter[str] = Counter()
    for family, problems in load_families().items():
        splits = assign_splits(family, problems)
        assert set(splits) == {problem.name for problem in problems}
        assert set(splits.values()) == {"train", "valid", "test"}, family
        counts.update(splits.values())
    total = counts.total()
    assert abs(counts["valid"] / total - HELD_OUT_SHARE) < 0.05
    assert abs(counts["test"] / total - HELD_OUT_SHARE) < 0.05


def test_the_same_whatever_the_hash_seed():
    digests = set()
    for seed in ("0", "4242"):
        ran = subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST, FAMILY],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ran.stdout)
    assert len(digests) == 1


def test_unknown_names_are_refused():
    with pytest.raises(DataError, match="no problem 'nonsense'"):
        list(MiniSource().problems("nonsense"))
    with pytest.raises(DataError, match=r"no families \['nonsense'\]; choose from \['bits'"):
        MiniSource(("nonsense",)).partitions()
