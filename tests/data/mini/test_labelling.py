from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest

from tests.data.mini.samples import BINARY_WEIGHT, COUNT_ABOVE, LETTERS_OF, SAMPLES
from wmtp_ray.data.records import Case
from wmtp_ray.data.sources.mini import labelling
from wmtp_ray.data.sources.mini.cases import GENERATED_CASES, SURVIVOR_CASES, literal, make_tests
from wmtp_ray.data.sources.mini.labelling import Labelled, label
from wmtp_ray.data.sources.mini.mutation import Mutant
from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.verify import verify


@pytest.fixture(scope="module")
def labelled() -> dict[str, Labelled]:
    return {problem.name: label(problem) for problem in (COUNT_ABOVE, BINARY_WEIGHT)}


def test_as_many_incorrect_programs_as_correct_ones(labelled: dict[str, Labelled]):
    for name, result in labelled.items():
        sides = Counter(solution.is_correct for solution in result.solutions)
        assert sides[True] == sides[False] >= 8, name
        texts = [solution.code for solution in result.solutions]
        assert len(set(texts)) == len(texts)


def test_labels_are_what_running_the_tests_says(labelled: dict[str, Labelled]):
    for result in labelled.values():
        for solution in random.Random(0).sample(result.solutions, 6):
            assert verify(solution.code, result.tests).passed is solution.is_correct, solution


def test_incorrect_programs_say_where_they_were_mutated(labelled: dict[str, Labelled]):
    for result in labelled.values():
        for correct, incorrect in zip(result.solutions[::2], result.solutions[1::2], strict=True):
            assert correct.is_correct and correct.mutated_span is None
            assert not incorrect.is_correct and incorrect.mutated_span is not None
            start, end = incorrect.mutated_span
            assert start < end <= len(incorrect.code)
            # Before the span stands the correct partner, but for indentation.
            assert "".join(correct.code.split()).startswith("".join(incorrect.code[:start].split()))


def test_a_reference_that_disagrees_is_named():
    wrong = (
        COUNT_ABOVE.references[0],
        "def count_above(xs, limit):\n    return len([x for x in xs if x >= limit])\n",
    )
    with pytest.raises(DataError, match=r"'count_above': reference 1 fails: wrong_answer: count_above\("):
        label(dataclasses.replace(COUNT_ABOVE, references=wrong))


def test_a_reference_that_crashes_on_generated_inputs_is_named():
    with pytest.raises(DataError, match=r"reference 0 fails on the input count_above\(3, 1\): TypeError"):
        make_tests(dataclasses.replace(COUNT_ABOVE, generate=lambda rng: (3, 1)))


def test_a_survivor_counts_as_correct_only_if_it_agrees_on_generated_inputs():
    tests, further, _ = make_tests(BINARY_WEIGHT)
    assert len(tests.cases) == len(BINARY_WEIGHT.cases) + GENERATED_CASES
    assert len(further.cases) == SURVIVOR_CASES
    answers = {
        int(case.input.removeprefix("binary_weight(").removesuffix(")")): int(case.expected)
        for case in tests.cases
    }
    programs = {
        "right": "def binary_weight(n):\n    return bin(n).count('1')\n",
        "learnt": f"def binary_weight(n):\n    return {answers!r}.get(n, -1)\n",
        "wrong": "def binary_weight(n):\n    return 0\n",
    }
    outcomes = {
        name: labelling._outcome(Mutant(text, name, (0, 1)), tests, further, Counter())
        for name, text in programs.items()
    }
    assert outcomes == {"right": "correct", "learnt": "undecided", "wrong": "incorrect"}


def test_generated_cases_do_not_repeat_and_are_literals():
    for problem in SAMPLES:
        tests, further, _ = make_tests(problem)
        calls = [case.input for case in (*tests.cases, *further.cases)]
        assert len(set(calls)) == len(calls)
        assert tests.cases[: len(problem.cases)] == tuple(
            Case(f"{problem.name}({arguments})", expected) for arguments, expected in problem.cases
        )


def test_sets_are_written_in_one_order():
    assert literal({"b", "a"}) == "{'a', 'b'}" and literal(set()) == "set()"
    assert literal({"k": [(1,), {2}]}) == "{'k': [(1,), {2}]}"
    tests, _, _ = make_tests(LETTERS_OF)
    assert all(case.expected == literal(eval(case.expected)) for case in tests.cases)
