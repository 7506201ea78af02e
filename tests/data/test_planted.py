"""The planted task: labels are what the planted rule says, and nothing else tells programs apart."""

from __future__ import annotations

import numpy as np

from wmtp_ray.data.sources.planted import MARKERS, PARTNERS, PlantedSource, right_partner, worth


def test_the_worth_of_a_word() -> None:
    assert worth("m0 p1 f3 m3 p0".split()).tolist() == [0, 1, 0, 0, -1]
    assert sorted(map(right_partner, MARKERS)) == sorted(PARTNERS)


def test_labels_follow_the_partners_and_lengths_say_nothing() -> None:
    source = PlantedSource(num_problems=60)
    problems = [problem for number in source.partitions() for problem in source.problems(number)]
    assert problems == [problem for number in source.partitions() for problem in source.problems(number)]
    assert {problem.split for problem in problems} == {"train", "valid"}
    counts: dict[bool, list[float]] = {True: [], False: []}
    for solution in (s for problem in problems for s in problem.solutions):
        words = solution.code.split()
        values = worth(words)
        assert len(words) == source.words and np.count_nonzero(values) == source.markers
        assert solution.is_correct == bool((values >= 0).all())
        counts[solution.is_correct].append(float((values > 0).mean()))
    assert len(counts[True]) == len(counts[False])
    assert np.mean(counts[False]) > 0  # a wrong program has right partners, too
