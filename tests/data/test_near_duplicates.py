"""Shingles are what they are said to be, signatures estimate Jaccard similarity, clusters are what pairs connect."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.data.near_duplicates import clusters, components, program_signatures, similar_pairs
from wmtp_ray.data.shingles import shingles, words

texts = st.text(alphabet="ab é_1+\n", max_size=30)


def naive_grams(text: str, n: int) -> list[tuple[str, ...]]:
    found = re.findall(r"[A-Za-z0-9_\u0080-\U0010ffff]+", text)
    return [tuple(w.lower() for w in found[i : i + n]) for i in range(len(found) - n + 1)]


@given(st.lists(texts, max_size=6), st.integers(1, 6))
def test_shingles_are_the_ngrams_of_words(batch: list[str], n: int):
    found = shingles(batch, n)
    expected = [gram for text in batch for gram in naive_grams(text, n)]
    assert found.counts.tolist() == [len(naive_grams(text, n)) for text in batch]
    assert len(found.hashes) == len(expected)
    # Equal n-grams have equal hashes, different ones different hashes.
    assert len(set(zip(expected, found.hashes.tolist(), strict=True))) == len(set(expected))
    assert len(set(found.hashes.tolist())) == len(set(expected))
    for number, text in enumerate(batch):
        assert np.array_equal(found.hashes[found.text_of == number], shingles([text], n).hashes)


def test_hashes_are_the_same_in_every_process():
    code = "from wmtp_ray.data.shingles import shingles; print(shingles(['a b c d'], 3).hashes.tolist())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(shingles(["A, b; c (d)"], 3).hashes.tolist())
    assert words("print(A_1 + é)") == [b"print", b"a_1", "é".encode()]


@pytest.mark.parametrize("changed", [0, 3, 10, 40, 100])
def test_signatures_estimate_jaccard_similarity(changed: int):
    base = [f"w{i}" for i in range(100)]
    other = [f"x{i}" if i < changed else word for i, word in enumerate(base)]
    a, b = set(naive_grams(" ".join(base), 5)), set(naive_grams(" ".join(other), 5))
    jaccard = len(a & b) / len(a | b)
    first, second = program_signatures([" ".join(base), " ".join(other)])
    deviation = np.sqrt(jaccard * (1 - jaccard) / 64)
    assert abs((first == second).mean() - jaccard) <= 3 * deviation


def test_clusters_of_programs():
    long = [f"value_{i} = compute({i})" for i in range(60)]
    edited = [*long]
    edited[30] = "value_30 = 0"
    programs = ["\n".join(long), "x = 1", "\n".join(reversed(long)) + " z", "\n".join(edited), "x = 1"]
    found = clusters(program_signatures([*programs, "completely different " * 9]), 0.8)
    # A copy with one edit joins; programs of fewer words than an n-gram stay alone, even if equal.
    assert found.tolist() == [0, 1, 2, 0, 4, 5]


def test_thousands_of_equal_programs_take_few_comparisons():
    many = np.repeat(program_signatures(["def f(a, b, c):\n    return a + b * c - d"]), 3000, axis=0)
    pairs = set(similar_pairs(many, 0.8))
    assert len(pairs) < 2 * len(many)
    assert (components(len(many), iter(pairs)) == 0).all()


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_components_connect_what_pairs_connect(pairs: list[tuple[int, int]]):
    found = components(20, iter(pairs))
    expected = list(range(20))
    for _ in range(20):
        for a, b in pairs:
            expected[a] = expected[b] = min(expected[a], expected[b])
    assert found.tolist() == expected
    assert all(a <= b for a, b in pairwise(sorted(set(found.tolist()))))
