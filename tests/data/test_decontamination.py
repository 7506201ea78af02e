"""Evaluation texts are found where they are contained, by n-grams as counted by hand, and nowhere else."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from wmtp_ray.data.decontamination import EvaluationTexts
from wmtp_ray.data.prepared import Rules, prepare_problem
from wmtp_ray.data.records import Problem, Reject, Solution, Tests
from wmtp_ray.data.shingles import words
from wmtp_ray.data.sources import all_problems
from wmtp_ray.data.sources.humaneval import HumanEvalSource
from wmtp_ray.errors import DataError

STATEMENT = "Given a list of numbers return the sum of those that are prime and odd"
PROGRAM = """def f(xs):
    total = 0
    for x in xs:
        if odd(x) and prime(x):
            total += x
    return total"""
SETS = {"eval": [Problem("e1", STATEMENT, (Solution(PROGRAM, True),)), Problem("e2", "Short one", ())]}


def shares(text: str, target: str, n: int) -> float:
    def grams(of: str) -> set[tuple[bytes, ...]]:
        found = words(of)
        return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}

    wanted = grams(target)
    return len(wanted & grams(text)) / len(wanted)


@given(st.lists(st.sampled_from("a b c d".split()), min_size=3, max_size=12), st.data())
def test_share_is_that_of_the_definition(target: list[str], data: st.DataObject):
    text = data.draw(st.lists(st.sampled_from("a b c d".split()), max_size=20))
    evaluation = EvaluationTexts.of({"s": [Problem("p", " ".join(target), ())]}, ngram=3, min_share=0.6)
    [found] = evaluation.found_in([" ".join(text)])
    share = shares(" ".join(text), " ".join(target), 3)
    assert (found is not None) == (share >= (0.6 if len(target) >= 6 else 1.0))
    if found:
        assert found == f"s p statement: {share:.0%} of its 3-grams"


def test_statements_and_programs(byte_tokenizer: PreTrainedTokenizerFast):
    evaluation = pickle.loads(pickle.dumps(EvaluationTexts.of(SETS, ngram=5)))
    rules = Rules(2000, evaluation=evaluation)

    def prepared(problem: Problem):
        return prepare_problem(problem, byte_tokenizer, rules)

    tests = Tests("assert", code="assert f([1]) == 1")
    copied = prepared(
        Problem("p", f"Task. {STATEMENT}!", (Solution("x", True), Solution("y", False)), tests=tests)
    )
    assert [r.reason for r in copied.rejects] == ["contaminated"] * 2
    assert copied.problem.tests is None and not copied.problem.solutions
    assert copied.rejects[0].detail == "eval e1 statement: 100% of its 5-grams"

    untried = prepared(Problem("p", f"Task. {STATEMENT}!", (), tests=tests))
    assert [(r.place, r.reason, r.rows) for r in untried.rejects] == [("p", "contaminated", 0)]
    assert untried.rows_in == 0

    solved = prepared(
        Problem("p", "Other", (Solution(f"import math\n{PROGRAM}\n", True), Solution("pass", True)))
    )
    assert [(r.place, r.reason, r.detail) for r in solved.rejects] == [
        ("p#0", "contaminated", "eval e1 solution: 100% of its 5-grams")
    ]
    # A held-out problem is what the store is evaluated on itself.
    assert not prepared(Problem("p", STATEMENT, (Solution("x", True),), split="test")).rejects
    assert not prepared(Problem("p", "Given a list of numbers", (Solution("x = 1", True),))).rejects


def test_short_texts():
    sets = {"s": [Problem("p", "Find the perimeter of a triangle", (Solution("a b c d e f g h i j", True),))]}
    evaluation = EvaluationTexts.of(sets, ngram=4)
    found = evaluation.found_in(["find the perimeter of a square", "Find the perimeter of a triangle!"])
    assert found == [None, "s p statement: 100% of its 4-grams"]
    assert evaluation.found_in(["a b c d e f g x y"]) == ["s p solution: 57% of its 4-grams"]
    assert evaluation.found_in(["a b c d e f x y"]) == [None]
    assert EvaluationTexts.of(sets, ngram=6).found_in(["a b c d e f g h i j"]) == [None]


def test_sets_without_texts_are_refused():
    with pytest.raises(DataError, match=r"evaluation set eval has no text of 64 words.*decontaminate\.ngram"):
        EvaluationTexts.of(SETS, ngram=64)


def test_humaneval_finds_itself():
    evaluation = EvaluationTexts.of({"humaneval": all_problems(HumanEvalSource())})
    problems = [p for p in all_problems(HumanEvalSource()) if isinstance(p, Problem)]
    assert len(problems) == 164
    found = evaluation.found_in([problem.instruction for problem in problems])
    assert all(which is not None for which in found)
    hidden = evaluation.found_in(
        [f"# notes\n{p.instruction}{p.solutions[0].code}\nprint(1)" for p in problems]
    )
    assert all(which is not None for which in hidden)


def test_an_evaluation_row_that_cannot_be_read_is_not_left_out() -> None:
    read = SETS["eval"]
    for reject in (Reject("q", "language", "java 3", rows=3), Reject("q solutions[1]", "not_utf8")):
        assert len(EvaluationTexts.of({"e": [reject, *read]}, ngram=5).names) == 2 * len(read)
    with pytest.raises(DataError, match=r"decontaminate\.against\.e: mbpp\.jsonl:2 is no problem \(bad_json"):
        EvaluationTexts.of({"e": [*read, Reject("mbpp.jsonl:2", "bad_json")]}, ngram=5)
